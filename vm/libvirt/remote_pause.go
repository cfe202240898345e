package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
)

// Pause implements [vm.Pausable]: QEMU stops the CPUs.
func (m *remoteMachine) Pause(ctx context.Context) error {
	return m.do(ctx, "pause", func(virt *golibvirt.Libvirt) error { return virt.DomainSuspend(m.domain) })
}

// Resume implements [vm.Pausable].
func (m *remoteMachine) Resume(ctx context.Context) error {
	if paused, err := m.Paused(ctx); err != nil || !paused {
		return err
	}
	return m.do(ctx, "resume", func(virt *golibvirt.Libvirt) error { return virt.DomainResume(m.domain) })
}

// Paused implements [vm.Pausable].
func (m *remoteMachine) Paused(ctx context.Context) (paused bool, err error) {
	err = m.do(ctx, "ask for the state of", func(virt *golibvirt.Libvirt) error {
		state, _, err := virt.DomainGetState(m.domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// do makes a call about the machine.
func (m *remoteMachine) do(ctx context.Context, doing string, call func(*golibvirt.Libvirt) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := m.host.virt.do(ctx, func() error { return call(m.host.virt.virt) }); err != nil {
		return m.host.explain(doing+" "+m.name, err)
	}
	return nil
}

var _ vm.Pausable = (*remoteMachine)(nil)
