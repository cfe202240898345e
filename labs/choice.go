// Package labs offers the kinds of labs: it chooses the one that a plan runs in, tells what that
// lab cannot do and what the host lacks for it, opens it, and removes what killed runs left.
package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/netns"
	"github.com/ctload/ctload/vm/sandbox"
	"github.com/ctload/ctload/vm/vagrant"
)

// Choice says in which lab a plan runs, as given on a command line.
type Choice struct {
	Driver string // one of [Drivers]; empty: libvirt
	// Connect holds URIs of existing libvirt daemons; none: a private daemon in the sandbox.
	Connect []string
	// Pool is the storage pool of those daemons for kernels; empty: see shared.Options.
	Pool string
	// Networks are for the links, and present on all their hosts; none: isolated ones, or a VXLAN.
	Networks    []string
	Parallel    int    // concurrent trials on those hosts; 0: one
	Accelerator string // kvm, tcg or empty; see embedded.Options
	Box         string // vagrant: a box; see vagrant.FindBox
	// AllowHostChanges, for netns, lets the run change settings of this host's kernel, which it
	// restores.
	AllowHostChanges bool
}

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
	// early says that its lab can boot the DUT of the next trial beside that of the one that ends.
	early bool
	// kernel is the experiments' name for the one kernel that the DUT has otherwise; empty: it has
	// no name.
	kernel string
	// refuse returns an error for what this lab cannot do of the order, whatever the host. It may
	// be nil.
	refuse func(Order) error
	// adapt gives the scenarios the CPUs and the memory that the DUT has whatever they ask for;
	// nil: the DUT has what they ask for.
	adapt func([]scenarios.Resolved)
	// prepare checks, before anything starts, that the host has what the lab needs.
	prepare func(context.Context, Order) error
	open    func(context.Context, *Site) (vm.Lab, error)
	paces   func(c Choice, cache string) []Expected
}

// drivers are all kinds of labs.
var drivers = []driver{
	{
		name: "libvirt", sandboxed: true, kernels: true, early: true,
		prepare: prepareEmbedded, open: openEmbedded, paces: pacesEmbedded,
	},
	{
		name: "libvirt", connected: true, kernels: true,
		refuse: refuseConnected, prepare: prepareConnected, open: openConnected, paces: pacesConnected,
	},
	{
		name: netns.Driver, sandboxed: true, kernel: kernels.HostName,
		refuse: refuseHostWide, adapt: adaptToHost, prepare: prepareNamespaces, open: openNamespaces,
		paces: always(namespacesPace),
	},
	{
		name: driverVagrant, sandboxed: true,
		refuse: refuseOnBox, prepare: prepareVagrant, open: openVagrant, paces: always(boxPace),
	},
}

// Drivers returns the names that [Choice] accepts.
func Drivers() []string {
	var names []string
	for _, d := range drivers {
		if !slices.Contains(names, d.name) {
			names = append(names, d.name)
		}
	}
	return names
}

// driver returns the chosen driver. The error is the user's.
func (c Choice) driver() (driver, error) {
	name := c.Driver
	if name == "" {
		name = "libvirt"
	}
	if !slices.Contains(Drivers(), name) {
		return driver{}, fmt.Errorf("--driver %s: there is no such driver%s", name, spelling.Hint(name, Drivers()))
	}
	for _, d := range drivers {
		if d.name == name && d.connected == (len(c.Connect) > 0) {
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("--connect %s: it does not go with --driver %s, whose lab is on this host: leave one of them out", c.Connect[0], name)
}

// Check returns an error for what the choice, or the scenarios of an experiment, ask for and the
// lab cannot do, whatever the host. It gives the scenarios what their DUT has whatever they ask
// for.
func (c Choice) Check(experiment *scenarios.Experiment, list []scenarios.Resolved) error {
	o := Order{Choice: c, Experiment: experiment, Scenarios: list}
	d, err := c.driver()
	if err != nil {
		return err
	}
	if accelerators := []string{libvirt.KVM, libvirt.TCG}; c.Accelerator != "" && !slices.Contains(accelerators, c.Accelerator) {
		return fmt.Errorf("--accelerator %s: there is no such accelerator%s", c.Accelerator, spelling.Hint(c.Accelerator, accelerators))
	}
	if len(c.Connect) == 0 && (c.Pool != "" || len(c.Networks) > 0 || c.Parallel > 0) {
		return errors.New("--pool, --network and --parallel are for daemons that exist: name one with --connect")
	}
	if c.Box != "" && d.name != driverVagrant {
		return fmt.Errorf("--box %s: it goes with --driver %s alone", c.Box, driverVagrant)
	}
	if err := vagrant.CheckFile(c.Box); err != nil {
		return err
	}
	if c.AllowHostChanges && d.name != netns.Driver {
		return fmt.Errorf("--allow-host-changes: it goes with --driver %s alone; no other changes the host", netns.Driver)
	}
	settled := o.checkFiles
	if !d.kernels {
		settled = func() error { return o.refuseKernels(d) }
	}
	if err := settled(); err != nil {
		return err
	}
	if d.refuse != nil {
		if err := d.refuse(o); err != nil {
			return err
		}
	}
	if d.adapt != nil {
		d.adapt(list)
	}
	return nil
}

// Confine starts this program with args in the sandbox that the lab needs, with input as its
// standard input, and returns its exit status.
func (c Choice) Confine(ctx context.Context, args []string, input []byte) (int, error) {
	if c.AllowHostChanges {
		return sandbox.RunAsRoot(ctx, args, input)
	}
	return sandbox.Run(ctx, args, input)
}

// Sandboxed reports whether this program, started again in the sandbox, makes the run.
func (c Choice) Sandboxed() bool {
	d, err := c.driver()
	return err == nil && d.sandboxed && !sandbox.Inside()
}

// checkFiles refuses kernels whose files are not on this host.
func (o Order) checkFiles() error {
	var errs []error
	for _, s := range o.Scenarios {
		if !s.DUT.KernelIsFile() {
			continue
		}
		if _, err := guest.KernelFiles(s.DUT.Kernel, s.DUT.KernelModules); err != nil {
			errs = append(errs, o.Experiment.Invalid(s.Position, fmt.Sprintf("scenario %s: %v", s.Name, err)))
		}
	}
	return errors.Join(errs...)
}

// refuseKernels refuses an order for another kernel than the one that the lab's DUT has. An
// experiment that names no kernel has the default, which does not count as a wish.
func (o Order) refuseKernels(d driver) error {
	var wants []string
	for i := range o.Scenarios {
		s := &o.Scenarios[i]
		if s.DUT.Kernel != scenarios.DefaultKernel && s.DUT.Kernel != d.kernel {
			wants = append(wants, fmt.Sprintf("scenario %s asks for the kernel %s; there is no choice here", s.Name, s.DUT.Kernel))
		}
		if d.kernel != "" {
			s.DUT.Kernel = d.kernel
		}
	}
	if len(wants) > 0 {
		return &UnfitError{Driver: d.name, Wants: wants, Way: machinesCan}
	}
	return nil
}

// refuseActions refuses an order with actions that the lab cannot perform.
func (o Order) refuseActions(driver string, cannot func(scenarios.Action) bool) error {
	var wants []string
	for _, s := range o.Scenarios {
		for _, a := range s.Actions {
			if cannot(a) {
				wants = append(wants, fmt.Sprintf("scenario %s has the action %s of %s", s.Name, a.Kind, a.Where()))
			}
		}
	}
	if len(wants) > 0 {
		return &UnfitError{Driver: driver, Wants: wants, Way: machinesCan}
	}
	return nil
}

// stopsDUT reports whether an action stops the DUT, or cuts its power.
func stopsDUT(a scenarios.Action) bool {
	return a.Kind.Fact().Stops && a.Node == wiring.DUT
}
