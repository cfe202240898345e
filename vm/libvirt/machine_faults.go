package libvirt

import (
	"context"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
)

// domainOwner is a machine of either lab.
type domainOwner interface {
	Name() string
	Agent() *agent.Client
	// do makes one call about the machine's domain; doing is for the error, as "pause".
	do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error
}

// pausing is [vm.Pausable] for a machine: QEMU stops the CPUs.
type pausing struct{ domainOwner }

// Pause implements [vm.Pausable].
func (p pausing) Pause(ctx context.Context) error {
	return p.do(ctx, "pause", (*golibvirt.Libvirt).DomainSuspend)
}

// Resume implements [vm.Pausable].
func (p pausing) Resume(ctx context.Context) error {
	if paused, err := p.Paused(ctx); err != nil || !paused {
		return err
	}
	return p.do(ctx, "resume", (*golibvirt.Libvirt).DomainResume)
}

// Paused implements [vm.Pausable].
func (p pausing) Paused(ctx context.Context) (paused bool, err error) {
	err = p.do(ctx, "ask for the state of", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) error {
		state, _, err := virt.DomainGetState(domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// Pause implements [vm.Pausable].
func (m *machine) Pause(ctx context.Context) error { return pausing{m}.Pause(ctx) }

// Resume implements [vm.Pausable].
func (m *machine) Resume(ctx context.Context) error { return pausing{m}.Resume(ctx) }

// Paused implements [vm.Pausable].
func (m *machine) Paused(ctx context.Context) (bool, error) { return pausing{m}.Paused(ctx) }

// Pause implements [vm.Pausable].
func (m *remoteMachine) Pause(ctx context.Context) error { return pausing{m}.Pause(ctx) }

// Resume implements [vm.Pausable].
func (m *remoteMachine) Resume(ctx context.Context) error { return pausing{m}.Resume(ctx) }

// Paused implements [vm.Pausable].
func (m *remoteMachine) Paused(ctx context.Context) (bool, error) { return pausing{m}.Paused(ctx) }

// restartable is a machine that can be started again.
type restartable interface {
	domainOwner
	// start starts it and returns when its agent has answered and its cards have their addresses.
	start(ctx context.Context) error
}

// reset is [vm.Resettable] by a power cut: the machine ends at once, whatever it was about, and starts again within
// limit, on the same links, of which ends knows. libvirt's own reset is not that: QEMU's clock goes on through it, and
// under TCG a guest that is reset then stands still for as long as it was up before (QEMU 7.2).
func reset(ctx context.Context, m restartable, ends *link.Ends, limit time.Duration) error {
	ends.Rebooted(m.Name())
	before := m.Agent()
	err := m.do(ctx, "cut the power of", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) error {
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
	return m.start(ctx)
}

// Reset implements [vm.Resettable].
func (m *machine) Reset(ctx context.Context) error { return reset(ctx, m, &m.lab.Ends, m.limit) }

// Reset implements [vm.Resettable]. Its domain has the same UUID afterwards, which is in the journal.
func (m *remoteMachine) Reset(ctx context.Context) error {
	return reset(ctx, m, &m.lab.Ends, m.limit)
}

func (m *machine) do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	virt := m.lab.virt
	if err := virt.do(ctx, func() error { return call(virt.virt, m.running()) }); err != nil {
		return m.lab.explain(doing+" machine "+m.name, err)
	}
	return nil
}

func (m *remoteMachine) do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	virt := m.host.virt
	if err := virt.do(ctx, func() error { return call(virt.virt, m.running()) }); err != nil {
		return m.host.explain(doing+" machine "+m.name, err)
	}
	return nil
}

// Pause implements [vm.Pausable].
func (n *loadNode) Pause(context.Context) error { return n.client.Pause() }

// Resume implements [vm.Pausable].
func (n *loadNode) Resume(context.Context) error { return n.client.Resume() }

// Paused implements [vm.Pausable].
func (n *loadNode) Paused(context.Context) (bool, error) { return n.client.Paused() }

var (
	_ vm.Pausable   = (*machine)(nil)
	_ vm.Resettable = (*machine)(nil)
	_ vm.Pausable   = (*loadNode)(nil)
	_ vm.Pausable   = (*remoteMachine)(nil)
	_ vm.Resettable = (*remoteMachine)(nil)
)
