package libvirt

import (
	"context"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
)

// Machine is a machine of either lab.
type Machine interface {
	Name() string
	Agent() *agent.Client
	// Do makes one call about the machine's domain; doing names it in errors, as "pause".
	Do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error
}

// Pause implements [vm.Pausable].
func Pause(ctx context.Context, m Machine) error {
	return m.Do(ctx, "pause", (*golibvirt.Libvirt).DomainSuspend)
}

// Resume implements [vm.Pausable].
func Resume(ctx context.Context, m Machine) error {
	if paused, err := Paused(ctx, m); err != nil || !paused {
		return err
	}
	return m.Do(ctx, "resume", (*golibvirt.Libvirt).DomainResume)
}

// Paused implements [vm.Pausable].
func Paused(ctx context.Context, m Machine) (paused bool, err error) {
	err = m.Do(ctx, "ask for the state of", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) error {
		state, _, err := virt.DomainGetState(domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// restartable is a machine that can be started again.
type restartable interface {
	Machine
	// Start starts the machine and returns when its agent has answered and its cards have their
	// addresses.
	Start(ctx context.Context) error
}

// Reset implements [vm.Resettable] by a power cut: the machine ends at once and starts again within
// limit, on the same links, which ends knows. libvirt's own reset does not do that: QEMU's clock
// continues through it, and under TCG (QEMU 7.2) a guest then stands still for as long as it was up
// before.
func Reset(ctx context.Context, m restartable, ends *link.Ends, limit time.Duration) error {
	ends.Rebooted(m.Name())
	before := m.Agent()
	err := m.Do(ctx, "cut the power of", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) error {
		err := virt.DomainDestroy(domain)
		if golibvirt.IsNotFound(err) { // it has ended by itself
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := before.Close(); err != nil {
		return fmt.Errorf("cut the power of machine %s: end the stream of before: %w", m.Name(), err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("its agent did not answer within %v after a reset", limit))
	defer cancel()
	return m.Start(ctx)
}
