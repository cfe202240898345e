package embedded

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// Pause implements [vm.Pausable].
func (m *machine) Pause(ctx context.Context) error { return libvirt.Pause(ctx, m) }

// Resume implements [vm.Pausable].
func (m *machine) Resume(ctx context.Context) error { return libvirt.Resume(ctx, m) }

// Paused implements [vm.Pausable].
func (m *machine) Paused(ctx context.Context) (bool, error) { return libvirt.Paused(ctx, m) }

// Reset implements [vm.Resettable].
func (m *machine) Reset(ctx context.Context) error {
	return libvirt.Reset(ctx, m, &m.lab.Ends, m.limit)
}

func (m *machine) Do(ctx context.Context, doing string, call func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	virt := m.lab.virt
	if err := virt.Do(ctx, func() error { return call(virt.Virt, m.running()) }); err != nil {
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

// Scheduled implements [vm.Hosted] by libvirt's vcpu.N.time and vcpu.N.delay (libvirt 7.2), both in
// nanoseconds; the delay comes from the host's schedstat.
func (m *machine) Scheduled(ctx context.Context) (vm.Scheduled, error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	params, err := m.lab.virt.VCPUStats(ctx, m.running())
	if err != nil {
		return vm.Scheduled{}, m.lab.explain("ask for the CPUs of "+m.name, err)
	}
	return libvirt.Scheduled(params)
}

var (
	_ vm.Hosted     = (*machine)(nil)
	_ vm.LinkFaulty = (*Lab)(nil)
	_ vm.Pausable   = (*machine)(nil)
	_ vm.Resettable = (*machine)(nil)
	_ vm.Pausable   = (*loadNode)(nil)
)
