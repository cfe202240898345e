// Package shared makes labs on running libvirt daemons, local or remote, beside their other users.
package shared

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// Options says which daemons a lab uses and what it may do there.
type Options struct {
	URIs        []string         // of the daemons; the DUT is on the first
	Run         string           // id of the run, part of the name of each object
	Journal     *journal.Journal // records each object
	Pool        string           // storage pool; empty: see findPool
	Networks    []string         // bridges or libvirt networks of all hosts, one for each link
	Accelerator string           // KVM or TCG; empty: KVM where a guest boots under it
	Cache       string           // folder that may outlive the lab; see Options
	DUT         vm.Machine       // largest DUT of the run: VCPUs and MemoryBytes count
	LoadNodes   []string         // names of all load nodes
	Load        vm.Machine       // kernel and initramfs; 0 VCPUs and bytes: chosen here
	Tell        func(string)
}

// Lab is a lab on running libvirt daemons of others: every node is a machine, links are isolated
// networks, a storage pool carries kernels, and the daemons carry the agents' streams. Each object
// is transient, has the run's id in its name and is in the journal before it is made.
type Lab struct {
	options Options
	hosts   []*hypervisor // alive
	places  map[string]*hypervisor
	links   linker

	// Ends are the ends at the machines' cards: the links are on other hosts, or on others'
	// bridges. Machines shape what passes through their own cards; a partition is a loss of 100 %.
	link.Ends

	// A lab that is one of several on a host has a name that its objects include, CPUs ("2,3";
	// empty: all), and a host that its owner closes.
	lane     string
	cpus     string
	borrowed bool

	mu       sync.Mutex
	serial   int       // numbers the machines, so that names never repeat
	dutPorts []vm.Port // of the DUT that booted last
}

// Connect opens a lab. It makes nothing before the first machine; until then Journal may be nil.
// Where the hosts cannot hold the machines of options, the error is a *guest.MissingError.
func Connect(ctx context.Context, options Options) (_ *Lab, err error) {
	l := &Lab{options: options}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.openHosts(ctx); err != nil {
		return nil, err
	}
	l.warn(ctx)
	return l, l.arrange()
}

// warn reports hosts whose own rules or tracking affect the measurement.
func (l *Lab) warn(ctx context.Context) {
	for _, h := range l.hosts {
		if h.filtered(ctx) {
			l.options.tell("%s: %s: there, %s", h.at.Name(), filters, quietBridges)
		}
	}
}

// openHosts connects to all daemons at once. It keeps the open ones also when another failed.
func (l *Lab) openHosts(ctx context.Context) error {
	hosts := make([]*hypervisor, len(l.options.URIs))
	var opening errgroup.Group
	for i, uri := range l.options.URIs {
		opening.Go(func() error {
			h, err := openHypervisor(ctx, uri, l.options)
			hosts[i] = h
			return err
		})
	}
	err := opening.Wait()
	l.hosts = slices.DeleteFunc(hosts, func(h *hypervisor) bool { return h == nil })
	return err
}

// arrange gives each node a host and chooses the kind of the links.
func (l *Lab) arrange() error {
	load := l.load()
	var room []room
	for _, h := range l.hosts {
		room = append(room, h.room())
	}
	places, err := placeNodes(room, l.options.DUT, load, l.options.LoadNodes)
	if err != nil {
		return err
	}
	l.places = map[string]*hypervisor{dutPlace: l.hosts[0]}
	used := []*hypervisor{l.hosts[0]}
	for name, i := range places {
		l.places[name] = l.hosts[i]
		if !slices.Contains(used, l.hosts[i]) {
			used = append(used, l.hosts[i])
		}
	}
	l.links, err = newLinker(l.options, used)
	l.warnOfCrowds(load)
	return err
}

// warnOfCrowds reports hosts whose machines will compete for CPUs.
func (l *Lab) warnOfCrowds(load vm.Machine) {
	for _, h := range l.hosts {
		cpus := 0
		for name, host := range l.places {
			switch {
			case host != h:
			case name == dutPlace:
				cpus += l.options.DUT.VCPUs
			default:
				cpus += load.VCPUs
			}
		}
		if cpus > h.threads() {
			l.options.tell("%s: the machines of a trial share CPUs: they have %d, the host %d",
				h.at.Name(), cpus, h.threads())
		}
	}
}

// dutPlace is the DUT's key in places.
const dutPlace = "dut"

// load returns the machine of a load node: two CPUs where all hosts have them to spare, else one.
func (l *Lab) load() vm.Machine {
	load := l.options.Load
	if load.MemoryBytes == 0 {
		load.MemoryBytes = loadMemory
	}
	if load.VCPUs == 0 {
		load.VCPUs = loadCPUs
		for i, h := range l.hosts {
			free := h.threads()
			if i == 0 && len(l.hosts) == 1 {
				free -= l.options.DUT.VCPUs
			}
			load.VCPUs = max(1, min(load.VCPUs, free/max(1, len(l.options.LoadNodes))))
		}
	}
	return load
}

// Defaults of a load node: enough for 60,000 sockets of a closed loop (4 KiB each, and more).
const (
	loadCPUs   = 2
	loadMemory = 1 << 30
)

// About returns what the lab runs on: the DUT's host.
func (l *Lab) About() vm.About {
	if len(l.hosts) == 0 {
		return vm.About{Driver: "libvirt"}
	}
	h := l.hosts[0]
	h.proof.Lock()
	defer h.proof.Unlock()
	about := vm.About{
		Driver: "libvirt", QEMU: h.qemu, Libvirt: h.libvirt,
		Accelerator: h.accel.Name, AcceleratorNote: h.accel.Note,
	}
	if !h.at.Here() {
		about.Host = &vm.Host{CPU: h.model, CPUs: h.threads(), MemoryBytes: h.total}
	}
	return about
}

// Boot starts a machine on the DUT's host and waits for its agent.
func (l *Lab) Boot(ctx context.Context, spec vm.Machine) (vm.Node, error) {
	l.mu.Lock()
	l.dutPorts = spec.Ports
	l.mu.Unlock()
	return l.start(ctx, l.places[dutPlace], spec)
}

// Join starts a load node as a machine of its own, on its planned host.
func (l *Lab) Join(ctx context.Context, spec vm.LoadNode) (vm.Node, error) {
	h, ok := l.places[spec.Name]
	if !ok {
		return nil, fmt.Errorf("load node %s was not planned for", spec.Name)
	}
	machine := l.load()
	machine.Name, machine.Ports = spec.Name, []vm.Port{spec.Port}
	node, err := l.start(ctx, h, machine)
	if err != nil {
		return nil, err
	}
	if err := l.reach(ctx, node, h, spec.Port); err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return node, nil
}

func (l *Lab) start(ctx context.Context, h *hypervisor, spec vm.Machine) (vm.Node, error) {
	l.mu.Lock()
	l.serial++
	serial := l.serial
	l.mu.Unlock()
	start := func(accelerator string, proven bool) (vm.Node, error) {
		m := &remoteMachine{host: h}
		m.Limit = libvirt.LimitOf(accelerator, proven)
		m.Description.Accelerator, m.Description.Machine = accelerator, spec
		return m.boot(ctx, l, serial)
	}
	h.proof.Lock()
	if accel := h.accel; accel.Proven {
		h.proof.Unlock()
		return accel.Boot(ctx, l.options.Tell, start)
	}
	defer h.proof.Unlock() // this machine is the proof, and the others wait for it
	return h.accel.Boot(ctx, l.options.Tell, start)
}

// Survey asks every host for an answer and drops those that do not give one; it returns a sentence
// for each of them. The error is a *vm.LostError when the other hosts cannot hold a trial.
func (l *Lab) Survey(ctx context.Context) (dead []string, err error) {
	var left []*hypervisor
	for _, h := range l.hosts {
		if err := h.alive(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			dead = append(dead, fmt.Sprintf("%s does not answer any more: %v", h.at.Name(), err))
			// The journal keeps what that host holds.
			l.options.Tell("ctload gc removes what is left on " + h.at.Name() + " when it is back")
			continue
		}
		left = append(left, h)
	}
	if len(dead) == 0 {
		return nil, nil
	}
	why := errors.New(strings.Join(dead, "; "))
	l.hosts = left
	if len(left) == 0 {
		return dead, &vm.LostError{Reason: why}
	}
	// The lab makes new links in place of those to the dead host.
	var errs []error
	for _, h := range left {
		errs = append(errs, h.unlink(ctx))
	}
	if err := errors.Join(append(errs, l.arrange())...); err != nil {
		err = fmt.Errorf("%w; the others cannot go on alone: %w", why, err)
		return dead, &vm.LostError{Reason: err}
	}
	return dead, nil
}

// Close removes everything that the lab made.
func (l *Lab) Close() error {
	if l.borrowed {
		return nil
	}
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

var _ vm.LinkFaulty = (*Lab)(nil)
