package labs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/libvirt/shared"
	"github.com/ctload/ctload/vm/netns"
	"github.com/ctload/ctload/vm/sandbox"
	"github.com/ctload/ctload/vm/vagrant"
)

// driver is one kind of lab.
type driver struct {
	name string // value of --driver
	// connected marks the variant of the driver for existing daemons.
	connected bool
	// sandboxed labs are made in the sandbox, by this program started again there. The process that
	// the user started makes any other lab, and keeps a journal.
	sandboxed bool
	// kernels says that the lab's machines boot the kernels that the experiment names.
	kernels bool
	// early says that the lab can boot the DUT of the next trial beside that of the one that ends.
	early bool
	// kernel is the experiments' name for the only kernel of the DUT; empty: it has none.
	kernel string
	// refuse returns an error for what the lab cannot do on any host; it may be nil.
	refuse func(Order) error
	// adapt gives the scenarios the CPUs and the memory that the DUT has whatever they ask for;
	// nil: the DUT has what they ask for.
	adapt func([]scenarios.Resolved)
	// prepare checks, before anything starts, that the host has what the lab needs.
	prepare func(context.Context, Order) error
	open    func(context.Context, *Site) (vm.Lab, error)
	paces   func(c Choice, cache string) []Expected
	examine examination
	// remover removes what killed runs left outside of the sandbox, of the kinds in leaves. It may
	// be an io.Closer; nil: the lab leaves nothing.
	remover func() journal.Remover
	leaves  []journal.Kind
}

// examination tells the doctor what the host has for a lab. cache is as in [Examine].
type examination func(ctx context.Context, cache string) []Finding

const (
	driverLibvirt = "libvirt"
	driverVagrant = "vagrant"
)

// drivers are all kinds of labs. A new one is a row here, with its functions below.
var drivers = []driver{
	{
		name: driverLibvirt, sandboxed: true, kernels: true, early: true,
		prepare: prepareEmbedded, open: openEmbedded, paces: pacesEmbedded,
		examine: examineMachines,
	},
	{
		name: netns.Driver, sandboxed: true, kernel: kernels.HostName,
		refuse: refuseHostWide, adapt: adaptToHost,
		prepare: prepareNamespaces, open: openNamespaces, paces: always(namespacesPace),
		examine: optional("--driver "+netns.Driver, examineNamespaces),
		remover: func() journal.Remover { return netns.Remover{} }, leaves: netns.Leaves,
	},
	{
		name: driverLibvirt, connected: true, kernels: true,
		refuse:  refuseConnected,
		prepare: prepareConnected, open: openConnected, paces: pacesConnected,
		examine: optional("--connect "+systemDaemon, examineSystemDaemon),
		remover: func() journal.Remover { return shared.NewRemovers() }, leaves: shared.Leaves,
	},
	{
		name: driverVagrant, sandboxed: true,
		refuse:  refuseOnBox,
		prepare: prepareVagrant, open: openVagrant, paces: always(boxPace),
		examine: optional("--driver "+driverVagrant, examineVagrant),
	},
}

// prepareEmbedded checks what the embedded lab needs: namespaces, a daemon, QEMU, tools, and the
// kernels, which it fetches where they are not cached.
func prepareEmbedded(ctx context.Context, o Order) error {
	if err := checkEmbedded(ctx); err != nil {
		return err
	}
	return prepareKernels(ctx, o)
}

func checkEmbedded(ctx context.Context) error {
	if err := sandbox.Check(ctx); err != nil {
		return err
	}
	return embedded.CheckHost()
}

// openEmbedded starts the lab's own libvirt daemon in the sandbox that this process is in.
func openEmbedded(ctx context.Context, s *Site) (vm.Lab, error) {
	return embedded.Open(ctx, s.embedded())
}

// embedded returns the options of an embedded lab.
func (s *Site) embedded() embedded.Options {
	return embedded.Options{
		Runtime: s.Folder, Cache: s.Cache, Accelerator: s.Choice.Accelerator, Tell: s.Note,
	}
}

func pacesEmbedded(c Choice, cache string) []Expected {
	switch refused, _ := libvirt.KVMRefused(cache); {
	case c.Accelerator == libvirt.TCG || c.Accelerator == "" && refused != "":
		return []Expected{{EmulatedPace, 1, " without KVM"}}
	case c.Accelerator == libvirt.KVM:
		return []Expected{{KVMPace, 1, " with KVM"}}
	default: // only a boot tells whether it works
		return []Expected{{KVMPace, 1, " with KVM"}, {EmulatedPace, 1, " if it does not work here"}}
	}
}

// always returns the pace of a lab that has only one.
func always(pace Pace) func(Choice, string) []Expected {
	return func(Choice, string) []Expected { return []Expected{{pace, 1, ""}} }
}

// refuseHostWide refuses scenarios of a DUT that shares the host's kernel where they stop the DUT,
// run faulty command lines, or, unless that is allowed, change settings of that kernel beyond the
// DUT's own.
func refuseHostWide(o Order) error {
	hostWide := func(a scenarios.Action) bool { return stopsDUT(a) || a.Kind.Fact().Host != "" }
	if err := o.refuseActions(netns.Driver, hostWide); err != nil {
		return err
	}
	var wants []string
	for _, s := range o.Scenarios {
		if len(s.DUT.Refused) > 0 {
			wants = append(wants, "scenario "+s.Name+" runs command lines with a mistake "+
				"(refused), which would meet the host's own kernel")
		}
	}
	const without = "; or leave these out with --scenario"
	err := unfit(netns.Driver, wants, without)
	if err != nil || o.Choice.AllowHostChanges {
		return err
	}
	for _, s := range o.Scenarios {
		asked, err := wiring.Settings(o.Experiment.Topology, s.DUT)
		if err != nil {
			return err
		}
		if list := netns.HostWide(asked); len(list) > 0 {
			wants = append(wants, fmt.Sprintf("scenario %s changes what is the whole host's: %s",
				s.Name, strings.Join(list, ", ")))
		}
	}
	return unfit(netns.Driver, wants, without+"; or let the host be changed and put back: "+
		"sudo ctload run --driver netns --allow-host-changes")
}

// adaptToHost gives the scenarios the CPUs and the memory of a namespace: this host's.
func adaptToHost(list []scenarios.Resolved) {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail with a valid address
	for i := range list {
		dut := &list[i].DUT
		dut.VCPUs, dut.Memory = runtime.NumCPU(), scenarios.Size(info.Totalram*uint64(info.Unit))
	}
}

// prepareNamespaces checks what a lab of namespaces needs: a sandbox, connection tracking, a host
// that no killed run has left changed, the rule tools, and the scenarios' modules.
func prepareNamespaces(ctx context.Context, o Order) error {
	if err := checkNamespaces(ctx, o.Choice.AllowHostChanges); err != nil {
		return err
	}
	if err := o.restoreHost(ctx); err != nil {
		return err
	}
	for _, s := range o.Scenarios {
		asked, err := wiring.Settings(o.Experiment.Topology, s.DUT)
		if err != nil {
			return err
		}
		if err := guest.CheckTools(asked.Tools()...); err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		if err := netns.CheckModules(ctx, asked); err != nil {
			return guest.Missing(machinesCan,
				"scenario %s cannot have its modules here: %w", s.Name, err)
		}
	}
	return nil
}

// checkNamespaces returns an error for what this host lacks for a lab of namespaces.
func checkNamespaces(ctx context.Context, changes bool) error {
	if changes {
		if err := netns.Changeable(); err != nil {
			return guest.Missing("sudo ctload run ..., outside of containers",
				"the settings of this host cannot be changed: %w", err)
		}
	} else if err := sandbox.CheckNamespaces(ctx); err != nil {
		return err
	}
	if !netns.Tracks() {
		return guest.Missing("sudo modprobe nf_conntrack",
			"connection tracking (nf_conntrack) is not in this host's kernel")
	}
	return nil
}

// openNamespaces makes a lab of namespaces in the sandbox that this process is in.
func openNamespaces(_ context.Context, s *Site) (vm.Lab, error) {
	// Check again: only inside a namespace does the kernel show which parameters a namespace has.
	if err := refuseHostWide(s.Order); err != nil {
		return nil, err
	}
	s.Note("the DUT is a namespace: its kernel, its CPUs and its memory are this host's, " +
		"whatever the experiment says of them")
	var host *netns.Settings
	if s.journal != nil {
		host = netns.NewSettings(s.journal)
	}
	// The host's tools, apart from its files.
	box := filepath.Join(s.Folder, "tools")
	_, tools := extras(s.Scenarios)
	if err := guest.WriteTools(box, append(guest.DefaultTools(), tools...)...); err != nil {
		return nil, err
	}
	return netns.Open(s.Folder, box, host), nil
}

func examineNamespaces(ctx context.Context) (f Finding, err error) {
	f.Detail = "namespaces on this host's kernel, at its full speed"
	if err := netns.Changeable(); err != nil {
		f.Detail += "; its table and hash cannot be changed (--allow-host-changes): " + err.Error()
	}
	return f, checkNamespaces(ctx, false)
}

// refuseConnected refuses choices that contradict each other.
func refuseConnected(o Order) error {
	switch c := o.Choice; {
	case c.Parallel < 0:
		return fmt.Errorf("--parallel %d: at least 1", c.Parallel)
	case c.Parallel > 1 && len(c.Networks) > 0:
		return errors.New("--parallel keeps each trial on one host; --network is for several")
	}
	return nil
}

// prepareConnected checks that the hosts can hold the trials. It makes nothing on them.
func prepareConnected(ctx context.Context, o Order) error {
	lab, err := connectLab(ctx, o, o.shared(func(string) {}))
	if err != nil {
		return err
	}
	return errors.Join(lab.Close(), prepareKernels(ctx, o))
}

// openConnected opens the lab on the hosts, or one lab for each concurrent trial.
func openConnected(ctx context.Context, s *Site) (vm.Lab, error) {
	options := s.shared(s.Note)
	options.Journal, options.Run = s.journal, s.journal.ID()
	// Load nodes have one kernel in all scenarios, so that the same code makes the load in all.
	kernel := s.Materials.Kernels[s.Scenarios[0].DUT.Kernel]
	options.Load.Kernel, options.Load.Initramfs = kernel.Image, kernel.Initramfs
	return connectLab(ctx, s.Order, options)
}

func connectLab(ctx context.Context, o Order, options shared.Options) (vm.Lab, error) {
	if o.Choice.Parallel > 1 {
		return shared.ConnectBeside(ctx, options, o.Choice.Parallel)
	}
	return shared.Connect(ctx, options)
}

// shared returns what the order asks of the hosts.
func (o Order) shared(tell func(string)) shared.Options {
	options := shared.Options{
		URIs: o.Choice.Connect, Pool: o.Choice.Pool, Networks: o.Choice.Networks,
		Accelerator: o.Choice.Accelerator, Cache: o.Cache, Tell: tell,
	}
	for _, s := range o.Scenarios {
		options.DUT.VCPUs = max(options.DUT.VCPUs, s.DUT.VCPUs)
		options.DUT.MemoryBytes = max(options.DUT.MemoryBytes, int64(s.DUT.Memory))
	}
	for _, node := range wiring.LoadNodes(o.Experiment.Topology) {
		options.LoadNodes = append(options.LoadNodes, node.Name)
	}
	return options
}

func pacesConnected(c Choice, _ string) []Expected {
	pace := KVMPace
	if c.Accelerator == libvirt.TCG {
		pace = EmulatedPace
	}
	return []Expected{{pace, max(1, c.Parallel), ""}}
}

// systemDaemon is the libvirt daemon that distributions start.
const systemDaemon = "qemu:///system"

func examineSystemDaemon(ctx context.Context) (Finding, error) {
	facts, err := shared.Examine(ctx, systemDaemon)
	if facts.Warning != "" {
		return Finding{Level: Slow, Detail: facts.Warning, Fix: facts.Fix}, err
	}
	return Finding{Detail: facts.String()}, err
}

// refuseOnBox refuses what cannot be done to a machine of Vagrant, or to its side of the links.
func refuseOnBox(o Order) error {
	return o.refuseActions(driverVagrant, func(a scenarios.Action) bool {
		if a.Kind.Fact().OnLinks() {
			node, _, _ := strings.Cut(a.Where(), "/")
			return node == wiring.DUT
		}
		return stopsDUT(a)
	})
}

// prepareVagrant checks what a lab of boxes needs, and fetches the box: the sandbox has no network.
func prepareVagrant(ctx context.Context, o Order) error {
	if err := checkEmbedded(ctx); err != nil {
		return err
	}
	if err := vagrant.CheckHost(ctx); err != nil {
		return err
	}
	tell := func(note string) { fmt.Fprintln(os.Stderr, note) }
	_, err := vagrant.FindBox(ctx, o.Choice.Box, o.Cache, tell)
	return err
}

// openVagrant starts a lab whose DUT is a machine of a box, in the sandbox that this process is in.
func openVagrant(ctx context.Context, s *Site) (vm.Lab, error) {
	box, err := vagrant.FindBox(ctx, s.Choice.Box, s.Cache, s.Note)
	if err != nil {
		return nil, err
	}
	return vagrant.Open(ctx, s.embedded(), box)
}

func examineVagrant(ctx context.Context) (Finding, error) {
	return Finding{Detail: "boxes of distributions, with vagrant-libvirt"}, vagrant.CheckHost(ctx)
}
