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

// Domain holds what the XML of a machine depends on.
type Domain struct {
	Name        string
	UUID        string // empty: libvirt's choice
	Run         string // id of the run, kept with the domain; empty: none
	Kind        string // QEMU's machine type; empty: pc
	Accelerator string
	Machine     vm.Machine
	CPUs        string // CPUs of the host that it may use, as "2,3"; empty: all
	Cards       []Card // one for each of the machine's ports, in their order
	Channel     string // path of the socket of the agent's port; empty: libvirt chooses
}

// Card is a network card of a machine. One of Tap, Network and Bridge is set.
type Card struct {
	Tap     string // an existing tap
	Network string // network of libvirt
	Bridge  string // bridge of the host
	MAC     string
	MTU     uint // bytes, announced to the machine; 0: it assumes 1500
}

// xml describes a transient domain: direct kernel boot, a virtio network card for each port, the
// agent's virtio-serial port, the serial console into a file (without one: into a stream that a
// client opens), and nothing else, since each device costs boot time under emulation.
func (d Domain) xml() (string, error) {
	doc := &libvirtxml.Domain{
		Type:   "qemu",
		Name:   d.Name,
		UUID:   d.UUID,
		Memory: &libvirtxml.DomainMemory{Value: uint(d.Machine.MemoryBytes / 1024), Unit: "KiB"},
		VCPU:   d.vcpus(),
		OS: &libvirtxml.DomainOS{
			Type: &libvirtxml.DomainOSType{
				Type: "hvm", Arch: Arch(runtime.GOARCH), Machine: cmp.Or(d.Kind, "pc"),
			},
			Kernel:  d.Machine.Kernel,
			Initrd:  d.Machine.Initramfs,
			Cmdline: guest.EmulatedCommandLine(d.Machine.VCPUs),
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
			Interfaces: interfaces(d.Cards),
			Channels: []libvirtxml.DomainChannel{{
				Source: &libvirtxml.DomainChardevSource{
					UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: d.Channel},
				},
				Target: &libvirtxml.DomainChannelTarget{
					VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agent.PortName},
				},
			}},
			Serials:    []libvirtxml.DomainSerial{{Source: d.console()}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	if d.Run != "" {
		doc.Metadata = &libvirtxml.DomainMetadata{XML: Metadata(d.Run)}
	}
	switch {
	case d.Accelerator == KVM:
		doc.Type, doc.OS.Cmdline = "kvm", guest.CommandLine
		doc.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	case runtime.GOARCH == "amd64":
		doc.CPU = emulatedCPU()
	}
	text, err := doc.Marshal()
	if err != nil {
		return "", fmt.Errorf("describe machine %s for libvirt: %w", d.Machine.Name, err)
	}
	return text, nil
}

// vcpus gives a machine with one emulated CPU room for a second one, which its kernel is told not
// to use. Otherwise QEMU translates locked instructions into plain ones while its devices run in
// threads of their own: a virtio queue then loses an occasional kick and stands still (NETDEV
// WATCHDOG: transmit queue timed out). QEMU 8.1 keeps fences, but Linux uses a locked addition for
// one.
func (d Domain) vcpus() *libvirtxml.DomainVCPU {
	v := &libvirtxml.DomainVCPU{Value: uint(d.Machine.VCPUs), CPUSet: d.CPUs}
	if d.Accelerator == TCG && d.Machine.VCPUs == 1 {
		v.Current, v.Value = 1, 2
	}
	return v
}

func (d Domain) console() *libvirtxml.DomainChardevSource {
	if d.Machine.ConsoleFile == "" {
		return &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
	}
	// Appending also lets [vm.BoundConsole] cut the file.
	file := &libvirtxml.DomainChardevSourceFile{Path: d.Machine.ConsoleFile, Append: "on"}
	return &libvirtxml.DomainChardevSource{File: file}
}

// Metadata names the run that an object belongs to, for other users of the daemon.
func Metadata(run string) string {
	return `<ctload:run xmlns:ctload="https://github.com/ctload/ctload">` + run + `</ctload:run>`
}

// emulatedCPU returns QEMU's default CPU without cmpxchg16b: QEMU 7.2 leaves garbage in the flags
// after it, and the slab allocator uses it from Linux 6.12 on: an interrupt at the wrong moment
// ends in a double fault (4 of 24 boots on a busy host; none without it). rdrand, which QEMU
// answers with the host's random numbers, saves the emulation a second of gathering entropy from
// its own clock at the first getrandom().
func emulatedCPU() *libvirtxml.DomainCPU {
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "qemu64"},
		Features: []libvirtxml.DomainCPUFeature{
			{Policy: "disable", Name: "cx16"}, {Policy: "require", Name: "rdrand"},
		},
	}
}

func interfaces(cards []Card) []libvirtxml.DomainInterface {
	var list []libvirtxml.DomainInterface
	for _, c := range cards {
		i := libvirtxml.DomainInterface{
			MAC:   &libvirtxml.DomainInterfaceMAC{Address: c.MAC},
			Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			// QEMU would load and search an option ROM in vain: nothing boots from the network.
			ROM: &libvirtxml.DomainROM{Enabled: "no"},
		}
		if c.MTU > 0 {
			i.MTU = &libvirtxml.DomainInterfaceMTU{Size: c.MTU}
		}
		source := &libvirtxml.DomainInterfaceSource{}
		i.Source = source
		switch {
		case c.Network != "":
			source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: c.Network}
		case c.Bridge != "":
			source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: c.Bridge}
		default:
			source.Ethernet = &libvirtxml.DomainInterfaceSourceEthernet{}
			i.Target = &libvirtxml.DomainInterfaceTarget{Dev: c.Tap, Managed: "no"}
		}
		list = append(list, i)
	}
	return list
}

// Arch returns libvirt's name of a Go architecture.
func Arch(goarch string) string {
	switch goarch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return goarch
}

// CheckArchitecture returns a *guest.MissingError unless a ctload built for goarch can boot
// machines. They are PCs (domain.xml, guest.CommandLine), and this program is their init.
func CheckArchitecture(goarch string) error {
	if goarch == "amd64" {
		return nil
	}
	return guest.Missing("ctload run EXPERIMENT --driver netns   runs on this host's kernel; "+
		"machines need an x86-64 host",
		"ctload boots x86-64 machines only, and this build is for %s", goarch)
}
