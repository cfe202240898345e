package libvirt

import (
	"cmp"
	"fmt"
	"runtime"

	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// Accelerators.
const (
	KVM = "kvm"
	TCG = "tcg"
)

// domain is what the XML of a machine depends on.
type domain struct {
	name        string
	uuid        string // empty: libvirt's choice
	run         string // id of the run, kept with the domain; empty: none
	kind        string // QEMU's machine; empty: pc
	accelerator string
	machine     vm.Machine
	cpus        string // CPUs of the host that it may use, as "2,3"; empty: all
	cards       []card // one for each of the machine's ports, in their order
	channel     string // path of the socket of the agent's port; empty: libvirt's choice
	appending   bool   // to the file of its console
}

// card is a network card of a machine, on one of three things.
type card struct {
	tap     string // that exists
	network string // of libvirt
	bridge  string // of the host
	mac     string
	mtu     uint // that the machine is told; 0: it takes 1500 bytes
}

// xml describes a transient domain: direct kernel boot, a virtio network card for each port, the agent's
// virtio-serial port, the serial console into a file (or, without one, to whoever opens it), and nothing
// else, since each device costs boot time under emulation.
func (d domain) xml() (string, error) {
	doc := &libvirtxml.Domain{
		Type:   "qemu",
		Name:   d.name,
		UUID:   d.uuid,
		Memory: &libvirtxml.DomainMemory{Value: uint(d.machine.MemoryBytes / 1024), Unit: "KiB"},
		VCPU:   d.vcpus(),
		OS: &libvirtxml.DomainOS{
			Type:    &libvirtxml.DomainOSType{Type: "hvm", Arch: libvirtArch(runtime.GOARCH), Machine: cmp.Or(d.kind, "pc")},
			Kernel:  d.machine.Kernel,
			Initrd:  d.machine.Initramfs,
			Cmdline: d.commandLine(),
		},
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{},
			APIC: &libvirtxml.DomainFeatureAPIC{},
		},
		OnPoweroff: "destroy", OnReboot: "destroy", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{
				{Type: "usb", Model: "none"},
				{Type: "virtio-serial"},
			},
			Interfaces: interfaces(d.cards),
			Channels: []libvirtxml.DomainChannel{{
				Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: d.channel}},
				Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agent.PortName}},
			}},
			Serials:    []libvirtxml.DomainSerial{{Source: d.console()}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	if d.run != "" {
		doc.Metadata = &libvirtxml.DomainMetadata{XML: metadata(d.run)}
	}
	switch {
	case d.accelerator == KVM:
		doc.Type = "kvm"
		doc.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	case runtime.GOARCH == "amd64":
		doc.CPU = emulatedCPU()
	}
	text, err := doc.Marshal()
	if err != nil {
		return "", fmt.Errorf("describe machine %s for libvirt: %w", d.machine.Name, err)
	}
	return text, nil
}

// vcpus gives a machine with one emulated CPU room for a second one, which its kernel is told not to use.
// For a machine that can only have one, QEMU translates locked instructions into plain ones, but its
// devices run in threads of their own. A virtio queue then loses a kick now and then, and stands still from
// there on (NETDEV WATCHDOG: transmit queue timed out). QEMU 8.1 keeps the guest's fences, but Linux on x86 uses
// a locked addition for one.
func (d domain) vcpus() *libvirtxml.DomainVCPU {
	v := &libvirtxml.DomainVCPU{Value: uint(d.machine.VCPUs), CPUSet: d.cpus}
	if d.accelerator == TCG && d.machine.VCPUs == 1 {
		v.Current, v.Value = 1, 2
	}
	return v
}

func (d domain) console() *libvirtxml.DomainChardevSource {
	if d.machine.ConsoleFile == "" {
		return &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
	}
	file := &libvirtxml.DomainChardevSourceFile{Path: d.machine.ConsoleFile, Append: "off"}
	if d.appending {
		file.Append = "on"
	}
	return &libvirtxml.DomainChardevSource{File: file}
}

// metadata says whose an object is, for those who come across it.
func metadata(run string) string {
	return fmt.Sprintf(`<ctload:run xmlns:ctload="https://github.com/ctload/ctload">%s</ctload:run>`, run)
}

func (d domain) commandLine() string {
	if d.accelerator == TCG {
		return guest.EmulatedCommandLine(d.machine.VCPUs)
	}
	return guest.CommandLine
}

// emulatedCPU is QEMU's default CPU without cmpxchg16b: QEMU 7.2 leaves garbage in the flags after that
// instruction, which the slab allocator of kernels from 6.12 on uses, so that an interrupt at the wrong
// moment ends in a double fault (4 of 24 boots on a busy host; none without it).
func emulatedCPU() *libvirtxml.DomainCPU {
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model:    &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "qemu64"},
		Features: []libvirtxml.DomainCPUFeature{{Policy: "disable", Name: "cx16"}},
	}
}

func interfaces(cards []card) []libvirtxml.DomainInterface {
	var list []libvirtxml.DomainInterface
	for _, c := range cards {
		i := libvirtxml.DomainInterface{
			MAC:   &libvirtxml.DomainInterfaceMAC{Address: c.mac},
			Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			// An option ROM would only be loaded and searched; nothing boots from the network.
			ROM: &libvirtxml.DomainROM{Enabled: "no"},
		}
		if c.mtu > 0 {
			i.MTU = &libvirtxml.DomainInterfaceMTU{Size: c.mtu}
		}
		switch {
		case c.network != "":
			i.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: c.network}}
		case c.bridge != "":
			i.Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: c.bridge}}
		default:
			i.Source = &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}}
			i.Target = &libvirtxml.DomainInterfaceTarget{Dev: c.tap, Managed: "no"}
		}
		list = append(list, i)
	}
	return list
}

func libvirtArch(goarch string) string {
	switch goarch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return goarch
}
