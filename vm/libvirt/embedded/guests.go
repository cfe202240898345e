package embedded

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// These methods serve a driver whose own program makes machines in the lab (vm/vagrant).

// URI returns the address of the lab's daemon in libvirt's notation.
func (l *Lab) URI() string { return l.virt.URI }

// managementBridge is the bridge of [Lab.Management].
const managementBridge = "ctmanage"

// Management makes a network of the daemon with addresses by DHCP, which connects this process to
// machines and leads nowhere else, and returns the name of its bridge. It ends with the daemon.
func (l *Lab) Management(ctx context.Context) (bridge string, err error) {
	network := libvirtxml.Network{
		Name:   "management",
		Bridge: &libvirtxml.NetworkBridge{Name: managementBridge, STP: "off"},
		IPs: []libvirtxml.NetworkIP{{
			Address: "192.168.121.1", Netmask: "255.255.255.0",
			DHCP: &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{
				{Start: "192.168.121.2", End: "192.168.121.254"},
			}},
		}},
	}
	xml, err := network.Marshal()
	if err != nil {
		return "", fmt.Errorf("describe the management network for libvirt: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	_, err = libvirt.Ask(ctx, l.virt, l.virt.NetworkCreateXML, xml)
	if err != nil {
		return "", l.explain("make the management network", err)
	}
	return managementBridge, nil
}

// with makes calls about the machine of that name; doing names them in errors.
func (l *Lab) with(ctx context.Context, name, doing string, do func(libvirt.Handle) error) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	err := l.virt.Do(ctx, func() error {
		domain, err := l.virt.DomainLookupByName(name)
		if err != nil {
			return err
		}
		return do(domain)
	})
	if err != nil {
		return l.explain(fmt.Sprintf("%s machine %s", doing, name), err)
	}
	return nil
}

// Restore reverts a machine to a saved snapshot. The machine runs afterwards if it ran when saved.
func (l *Lab) Restore(ctx context.Context, machine, snapshot string) error {
	return l.with(ctx, machine, "restore the snapshot of", func(domain libvirt.Handle) error {
		saved, err := l.virt.DomainSnapshotLookupByName(domain, snapshot, 0)
		if err != nil {
			return err
		}
		return l.virt.DomainRevertToSnapshot(saved, 0)
	})
}

// ScheduledOf implements [vm.Hosted] for a machine by its name.
func (l *Lab) ScheduledOf(ctx context.Context, machine string) (s vm.Scheduled, err error) {
	err = l.with(ctx, machine, "ask for the CPUs of", func(domain libvirt.Handle) (err error) {
		s, err = l.virt.Scheduled(domain)
		return err
	})
	return s, err
}

// Accelerated calls boot to boot a machine with the lab's accelerator. The first machine proves
// KVM: when boot fails with it, Accelerated calls boot again with TCG.
func (l *Lab) Accelerated(ctx context.Context, boot libvirt.Start) (vm.Node, error) {
	return l.accel.Boot(ctx, l.options.Tell, boot)
}
