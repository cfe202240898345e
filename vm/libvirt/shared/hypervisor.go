package shared

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// hypervisor is one running libvirt daemon, with what this run has made there.
type hypervisor struct {
	at      *libvirt.Endpoint
	virt    *libvirt.Connection
	options Options

	qemu, libvirt string // versions
	model         string // of its CPUs
	cpus          []core
	total, memory int64                  // bytes: of the host, and available to new machines
	kind          string                 // of machine, known to its QEMU
	pool          *golibvirt.StoragePool // nil: none yet

	proof sync.Mutex // held while a machine proves accel
	accel libvirt.Accelerator

	making   sync.Mutex        // serializes the making of objects that machines share
	images   map[string]string // path of an image there, by its path on this host
	networks map[string]string // name of a network there, by the link's name
}

// core lists the numbers of the threads of one CPU core.
type core []int

// oldest is the oldest supported libvirt: a network card without an option ROM came with 4.3.0.
const oldest = 4_003_000

// answerLimit bounds the time in which a daemon must report what its host can do.
var answerLimit = libvirt.CallLimit

// hostMemory is the memory, in bytes, that a machine costs its host besides its own: QEMU itself.
const hostMemory = 100 << 20

// openHypervisor connects to a daemon and reads what its host can do, or a *guest.MissingError.
func openHypervisor(ctx context.Context, uri string, options Options) (_ *hypervisor, err error) {
	at, err := libvirt.ParseEndpoint(uri)
	if err != nil {
		return nil, err
	}
	late := fmt.Errorf("no answer within %v", answerLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, late)
	defer cancel()
	h := &hypervisor{at: at, options: options}
	h.images, h.networks = map[string]string{}, map[string]string{}
	if h.virt, err = libvirt.Connect(ctx, at); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.virt.Close(ctx))
		}
	}()
	if err := h.examine(ctx); err != nil {
		return nil, err
	}
	if h.pool, err = h.findPool(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// lacks returns the error of a host that cannot be used.
func (h *hypervisor) lacks(fix, format string, args ...any) error {
	return guest.Missing(fix, "%s: %w", h.at.Name(), fmt.Errorf(format, args...))
}

// virsh returns a command of virsh for this daemon.
func (h *hypervisor) virsh(command string) string {
	return "virsh -c '" + h.at.URI.String() + "' " + command
}

// examine asks the daemon for its versions and its host for its size.
func (h *hypervisor) examine(ctx context.Context) error {
	if err := libvirt.CheckArchitecture(runtime.GOARCH); err != nil {
		return err
	}
	library, err := libvirt.Within(ctx, h.virt, h.virt.ConnectGetLibVersion)
	if err != nil {
		return fmt.Errorf("ask libvirt at %s for its version: %w", h.at.Name(), err)
	}
	if library < oldest {
		return h.lacks("a distribution of 2018 or later", "its libvirt %s is too old, it takes %s",
			libvirt.Version(library), libvirt.Version(oldest))
	}
	if h.qemu, h.libvirt, err = h.virt.Versions(ctx); err != nil {
		return h.lacks(guest.Install+"qemu-system-x86", "its libvirt has no QEMU: %v", err)
	}
	text, err := libvirt.Within(ctx, h.virt, h.virt.ConnectGetCapabilities)
	if err != nil {
		return fmt.Errorf("ask %s for its capabilities: %w", h.at.Name(), err)
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return fmt.Errorf("read the capabilities of %s: %w", h.at.Name(), err)
	}
	if err := h.read(caps); err != nil {
		return err
	}
	return h.readMemory(ctx)
}

// read takes the relevant facts from a host's capabilities.
func (h *hypervisor) read(caps libvirtxml.Caps) error {
	arch := libvirt.Arch(runtime.GOARCH)
	i := slices.IndexFunc(caps.Guests, func(g libvirtxml.CapsGuest) bool {
		return g.OSType == "hvm" && g.Arch.Name == arch
	})
	if i < 0 {
		return h.lacks(guest.Install+"qemu-system", "its QEMU has no machines for %s", arch)
	}
	h.kind = "q35"
	for _, m := range caps.Guests[i].Arch.Machines {
		if m.Name == "pc" {
			h.kind = m.Name
		}
	}
	absent, memory := h.at.Name()+" has no KVM", ""
	for _, d := range caps.Guests[i].Arch.Domains {
		if d.Type == libvirt.KVM {
			absent = ""
		}
	}
	if h.at.Here() {
		memory = libvirt.KVMMemory(h.options.Cache)
	}
	h.accel = libvirt.AcceleratorOf(h.options.Accelerator, absent, memory)
	h.cpus = cores(caps.Host.NUMA)
	if caps.Host.CPU != nil {
		h.model = caps.Host.CPU.Model
	}
	if len(h.cpus) == 0 {
		return h.lacks(h.virsh("capabilities"), "it does not say which CPUs it has")
	}
	return nil
}

// cores groups a host's CPUs by core, in the order of their numbers.
func cores(numa *libvirtxml.CapsHostNUMATopology) []core {
	if numa == nil || numa.Cells == nil {
		return nil
	}
	var list []core
	where := map[[3]int]int{} // index in list by cell, socket and core
	for _, cell := range numa.Cells.Cells {
		if cell.CPUS == nil {
			continue
		}
		for _, cpu := range cell.CPUS.CPUs {
			// A host that does not report cores gets a core for each CPU.
			place := [3]int{cell.ID, -1, -1 - cpu.ID}
			if cpu.SocketID != nil && cpu.CoreID != nil {
				place = [3]int{cell.ID, *cpu.SocketID, *cpu.CoreID}
			}
			i, known := where[place]
			if !known {
				i, where[place] = len(list), len(list)
				list = append(list, nil)
			}
			list[i] = append(list[i], cpu.ID)
		}
	}
	return list
}

// threads returns the number of the host's CPUs.
func (h *hypervisor) threads() int { return len(slices.Concat(h.cpus...)) }

// readMemory reads how much memory the host has, and how much is free, with what caches hold.
func (h *hypervisor) readMemory(ctx context.Context) error {
	const allCells = -1
	stats, err := libvirt.Within(ctx, h.virt, func() ([]golibvirt.NodeGetMemoryStats, error) {
		_, n, err := h.virt.NodeGetMemoryStats(0, allCells, 0)
		if err != nil {
			return nil, err
		}
		stats, _, err := h.virt.NodeGetMemoryStats(n, allCells, 0)
		return stats, err
	})
	if err != nil {
		return fmt.Errorf("ask %s for its memory: %w", h.at.Name(), err)
	}
	for _, s := range stats {
		switch s.Field {
		case "total":
			h.total = int64(s.Value) << 10
		case "free", "buffers", "cached":
			h.memory += int64(s.Value) << 10
		}
	}
	return nil
}

// alive asks the daemon for an answer.
func (h *hypervisor) alive(ctx context.Context) error {
	const limit = 2 * libvirt.DeadAfter
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	_, err := libvirt.Within(ctx, h.virt, h.virt.ConnectGetLibVersion)
	return err
}

// lost returns a *vm.LostError when the daemon is gone, otherwise nil.
func (h *hypervisor) lost(doing string, err error) error {
	select {
	case <-h.virt.Disconnected():
		return &vm.LostError{Reason: fmt.Errorf("the libvirt daemon at %s went away: %s: %w",
			h.at.Name(), doing, err)}
	default:
		return nil
	}
}

// explain distinguishes a daemon that is gone (*vm.LostError) from one that refused.
func (h *hypervisor) explain(doing string, err error) error {
	if lost := h.lost(doing, err); lost != nil {
		return lost
	}
	return fmt.Errorf("%s on %s: %w", doing, h.at.Name(), err)
}

// close removes everything that the run made, the last first, and ends the connection. The journal
// keeps what a daemon that is gone still holds.
func (h *hypervisor) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
	defer cancel()
	var errs []error
	made := h.made()
	if len(made) > 0 && h.lost("", nil) != nil {
		// An interrupted call may have ended this connection alone; the daemon can still remove.
		if again, err := libvirt.Connect(ctx, h.at); err == nil {
			h.virt = again
		}
	}
	for _, o := range slices.Backward(made) {
		errs = append(errs, h.remove(ctx, o))
	}
	return errors.Join(append(errs, h.virt.Close(ctx))...)
}

// remove removes an object, unless another owner has taken its name, and strikes it out.
func (h *hypervisor) remove(ctx context.Context, e journal.Entry) error {
	if err := remove(ctx, h.virt, e); err != nil && !errors.Is(err, errNotOurs) {
		return h.explain(fmt.Sprintf("remove %s %s", e.Kind, e.Name), err)
	}
	return h.options.Journal.Gone(e)
}

// record notes an object in the journal before it is made. detail is its UUID, or a volume's pool.
func (h *hypervisor) record(kind journal.Kind, name, detail string) (journal.Entry, error) {
	e := journal.Entry{Kind: kind, Where: h.at.URI.String(), Name: name, Detail: detail}
	return e, h.options.Journal.Record(e)
}

// made returns what the run made there and has not removed, in the order of making.
func (h *hypervisor) made() []journal.Entry {
	if h.options.Journal == nil {
		return nil
	}
	elsewhere := func(e journal.Entry) bool { return e.Where != h.at.URI.String() }
	return slices.DeleteFunc(h.options.Journal.Left(), elsewhere)
}

// tell passes a note on to the user.
func (o Options) tell(format string, args ...any) { o.Tell(fmt.Sprintf(format, args...)) }

// objectName returns the name of an object of this run, which includes the run's id.
func (o Options) objectName(what string) string { return "ctload-" + o.Run + "-" + what }

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// filtered reports whether the host passes bridged frames to its own rules and its own conntrack,
// which then see the load and falsify it (bridge-nf-call-iptables; the default once br_netfilter is
// loaded). False also where the host cannot be asked.
func (h *hypervisor) filtered(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CloseLimit)
	defer cancel()
	out, err := h.at.Shell(ctx, "cat /proc/sys/net/bridge/*-call-ip*tables 2>/dev/null || true")
	return err == nil && strings.Contains(out, "1")
}

// What filters does, and the command that stops it.
const (
	filters      = "it tracks and filters the load, which crosses its bridges"
	quietBridges = "sudo sysctl -w net.bridge.bridge-nf-call-iptables=0" +
		" net.bridge.bridge-nf-call-ip6tables=0"
)

// Facts describes a running daemon and its host.
type Facts struct {
	Libvirt, QEMU string // versions
	CPUs          int
	MemoryBytes   int64  // available to a machine
	KVM           string // why KVM is not available; empty where a run will try it
	Pool          string // storage pool for kernels; empty: a run makes one
	Warning       string // what falsifies measurements there; empty: nothing
	Fix           string // for the warning
}

// Examine asks a daemon for its facts and changes nothing. The error is a *guest.MissingError.
func Examine(ctx context.Context, uri string) (f Facts, err error) {
	h, err := openHypervisor(ctx, uri, Options{})
	if err != nil {
		return Facts{}, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	f = Facts{
		Libvirt: h.libvirt, QEMU: h.qemu, CPUs: h.threads(), MemoryBytes: h.memory,
		KVM: h.accel.Note,
	}
	if h.pool != nil {
		f.Pool = h.pool.Name
	}
	if h.filtered(ctx) {
		f.Warning, f.Fix = filters, quietBridges
	}
	return f, nil
}

// String returns the facts in one line.
func (f Facts) String() string {
	pool := "none, a run makes one in " + imagesFolder
	if f.Pool != "" {
		pool = f.Pool
	}
	return fmt.Sprintf("libvirt %s, QEMU %s, %d CPUs, %d MiB for machines, storage pool: %s",
		f.Libvirt, f.QEMU, f.CPUs, f.MemoryBytes>>20, pool)
}
