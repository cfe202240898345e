package embedded

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// These methods serve a driver whose own program, which knows libvirt, makes machines in an
// embedded lab (vm/vagrant).

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
			DHCP: &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{Start: "192.168.121.2", End: "192.168.121.254"}}},
		}},
	}
	xml, err := network.Marshal()
	if err != nil {
		return "", fmt.Errorf("describe the management network for libvirt: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	_, err = libvirt.Within(ctx, l.virt, func() (golibvirt.Network, error) { return l.virt.Virt.NetworkCreateXML(xml) })
	if err != nil {
		return "", l.explain("make the management network", err)
	}
	return managementBridge, nil
}

// domainNamed finds a machine by its name.
func (l *Lab) domainNamed(ctx context.Context, name string) (golibvirt.Domain, error) {
	domain, err := libvirt.Within(ctx, l.virt, func() (golibvirt.Domain, error) { return l.virt.Virt.DomainLookupByName(name) })
	if err != nil {
		return domain, l.explain("look up machine "+name, err)
	}
	return domain, nil
}

// Restore reverts a machine to a saved snapshot. The machine runs afterwards if it ran when saved.
func (l *Lab) Restore(ctx context.Context, machine, snapshot string) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	domain, err := l.domainNamed(ctx, machine)
	if err != nil {
		return err
	}
	err = l.virt.Do(ctx, func() error {
		saved, err := l.virt.Virt.DomainSnapshotLookupByName(domain, snapshot, 0)
		if err != nil {
			return err
		}
		return l.virt.Virt.DomainRevertToSnapshot(saved, 0)
	})
	if err != nil {
		return l.explain(fmt.Sprintf("restore the snapshot %s of machine %s", snapshot, machine), err)
	}
	return nil
}

// ScheduledOf implements [vm.Hosted] for a machine by its name.
func (l *Lab) ScheduledOf(ctx context.Context, machine string) (vm.Scheduled, error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	domain, err := l.domainNamed(ctx, machine)
	if err != nil {
		return vm.Scheduled{}, err
	}
	s, err := l.virt.Scheduled(ctx, domain)
	if err != nil {
		return s, l.explain("ask for the CPUs of "+machine, err)
	}
	return s, nil
}

// Accelerated calls boot to boot a machine with the lab's accelerator. The first machine proves
// KVM: when boot fails with it, Accelerated calls boot again with TCG. proven is false where a
// failure is likely; boot should then fail early.
func (l *Lab) Accelerated(ctx context.Context, boot func(accelerator string, proven bool) (vm.Node, error)) (vm.Node, error) {
	return l.accel.Boot(ctx, l.options.Tell, boot)
}
