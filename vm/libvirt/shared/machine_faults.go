package shared

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// Pause implements [vm.Pausable].
func (m *remoteMachine) Pause(ctx context.Context) error { return libvirt.Pause(ctx, m) }

// Resume implements [vm.Pausable].
func (m *remoteMachine) Resume(ctx context.Context) error { return libvirt.Resume(ctx, m) }

// Paused implements [vm.Pausable].
func (m *remoteMachine) Paused(ctx context.Context) (bool, error) {
	return libvirt.Paused(ctx, m)
}

// Reset implements [vm.Resettable]. The domain keeps its UUID, which the journal holds.
func (m *remoteMachine) Reset(ctx context.Context) error {
	return libvirt.Reset(ctx, m, &m.lab.Ends, m.limit)
}

func (m *remoteMachine) Do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	virt := m.host.virt
	if err := virt.Do(ctx, func() error { return call(virt.Virt, m.running()) }); err != nil {
		return m.host.explain(doing+" machine "+m.name, err)
	}
	return nil
}

var (
	_ vm.LinkFaulty = (*Lab)(nil)
	_ vm.Pausable   = (*remoteMachine)(nil)
	_ vm.Resettable = (*remoteMachine)(nil)
)
