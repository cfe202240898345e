package libvirt

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
)

// Pause implements [vm.Pausable]: QEMU stops the CPUs.
func (m *machine) Pause(ctx context.Context) error {
	return m.do(ctx, "pause", func(virt *golibvirt.Libvirt) error { return virt.DomainSuspend(m.domain) })
}

// Resume implements [vm.Pausable].
func (m *machine) Resume(ctx context.Context) error {
	if paused, err := m.Paused(ctx); err != nil || !paused {
		return err
	}
	return m.do(ctx, "resume", func(virt *golibvirt.Libvirt) error { return virt.DomainResume(m.domain) })
}

// Paused implements [vm.Pausable].
func (m *machine) Paused(ctx context.Context) (paused bool, err error) {
	err = m.do(ctx, "ask for the state of", func(virt *golibvirt.Libvirt) error {
		state, _, err := virt.DomainGetState(m.domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// Reset implements [vm.Resettable]. A machine that reboots by itself ends (on_reboot, QEMU's no-reboot), and
// that would end one that is reset as well, so that it is allowed for as long as this reset takes.
func (m *machine) Reset(ctx context.Context) (err error) {
	onReboot := func(ctx context.Context, action golibvirt.DomainLifecycleAction) error {
		return m.do(ctx, "say what ends", func(virt *golibvirt.Libvirt) error {
			return virt.DomainSetLifecycleAction(m.domain, uint32(golibvirt.DomainLifecycleReboot), uint32(action), golibvirt.DomainAffectLive)
		})
	}
	if err := onReboot(ctx, golibvirt.DomainLifecycleActionRestart); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, onReboot(context.WithoutCancel(ctx), golibvirt.DomainLifecycleActionDestroy))
	}()
	before := m.Agent()
	m.lab.ends.Rebooted(m.name)
	// It stands still meanwhile: the agent of before is not to notice the end of its stream, which would
	// power the machine off, nor to take in the beginning of the new one.
	if err := m.Pause(ctx); err != nil {
		return err
	}
	if err := m.do(ctx, "reset", func(virt *golibvirt.Libvirt) error { return virt.DomainReset(m.domain, 0) }); err != nil {
		return err
	}
	if err := before.Close(); err != nil {
		return fmt.Errorf("reset machine %s: end the stream of before: %w", m.name, err)
	}
	if err := m.do(ctx, "resume", func(virt *golibvirt.Libvirt) error { return virt.DomainResume(m.domain) }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("its agent did not answer within %v after a reset", m.limit))
	defer cancel()
	return m.reach(ctx)
}

// do makes one call about the machine's domain.
func (m *machine) do(ctx context.Context, doing string, call func(*golibvirt.Libvirt) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	virt := m.lab.virt
	_, err := within(ctx, virt, func() (struct{}, error) { return struct{}{}, call(virt.virt) })
	if err != nil {
		return m.lab.explain(doing+" machine "+m.name, err)
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
)
