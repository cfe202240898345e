// Package labs offers the kinds of labs: it chooses the one that a plan runs in, tells what that
// lab cannot do and what the host lacks for it, opens it, and removes what killed runs left.
package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
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
	// AllowHostChanges, for netns, lets the run change the host's settings; it restores them.
	AllowHostChanges bool
}

// Drivers returns the names that [Choice] accepts.
func Drivers() (names []string) {
	for _, d := range drivers {
		if !slices.Contains(names, d.name) {
			names = append(names, d.name)
		}
	}
	return names
}

// driver returns the chosen driver. The error is the user's.
func (c Choice) driver() (driver, error) {
	name := cmp.Or(c.Driver, driverLibvirt)
	if err := known("driver", name, Drivers()); err != nil {
		return driver{}, err
	}
	for _, d := range drivers {
		if d.name == name && d.connected == (len(c.Connect) > 0) {
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("--connect %s: it does not go with --driver %s, whose lab is on "+
		"this host: leave one of them out", c.Connect[0], name)
}

// known returns an error unless a flag has one of its values.
func known(flag, value string, values []string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return fmt.Errorf("--%[1]s %[2]s: there is no such %[1]s%[3]s",
		flag, value, spelling.Hint(value, values))
}

// Check returns an error for what the choice or the scenarios ask for and the lab cannot do,
// whatever the host. It gives the scenarios what their DUT has in any case.
func (c Choice) Check(experiment *scenarios.Experiment, list []scenarios.Resolved) error {
	o := Order{Choice: c, Experiment: experiment, Scenarios: list}
	d, err := c.driver()
	if err != nil {
		return err
	}
	if c.Accelerator != "" {
		err := known("accelerator", c.Accelerator, []string{libvirt.KVM, libvirt.TCG})
		if err != nil {
			return err
		}
	}
	if len(c.Connect) == 0 && (c.Pool != "" || len(c.Networks) > 0 || c.Parallel > 0) {
		return errors.New("--pool, --network and --parallel are for daemons that exist: " +
			"name one with --connect")
	}
	if c.Box != "" && d.name != driverVagrant {
		return fmt.Errorf("--box %s: it goes with --driver %s alone", c.Box, driverVagrant)
	}
	if err := vagrant.CheckFile(c.Box); err != nil {
		return err
	}
	if c.AllowHostChanges && d.name != netns.Driver {
		return fmt.Errorf("--allow-host-changes: it goes with --driver %s alone", netns.Driver)
	}
	if d.kernels {
		err = o.checkFiles()
	} else {
		err = o.refuseKernels(d)
	}
	if err == nil && d.refuse != nil {
		err = d.refuse(o)
	}
	if err != nil {
		return err
	}
	if d.adapt != nil {
		d.adapt(list)
	}
	return nil
}

// Confine starts this program with args in the sandbox that the lab needs and returns its exit
// status.
func (c Choice) Confine(ctx context.Context, args []string, give sandbox.Handover) (int, error) {
	if c.AllowHostChanges {
		if err := journal.MakeHostFolder(hostFolder); err != nil {
			return 0, err
		}
		folder, err := os.Open(hostFolder)
		if err != nil {
			return 0, fmt.Errorf("record changes of this host: %w", err)
		}
		defer folder.Close()
		give.Writable = append(give.Writable, folder)
		return sandbox.RunAsRoot(ctx, args, give)
	}
	return sandbox.Run(ctx, args, give)
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
			why := fmt.Sprintf("scenario %s: %v", s.Name, err)
			errs = append(errs, o.Experiment.Invalid(s.Position, why))
		}
	}
	return errors.Join(errs...)
}

// UnfitError reports that an experiment asks for what the chosen lab cannot do, and which lab can.
type UnfitError struct {
	Driver string
	Wants  []string // scenarios and their wishes, a phrase each
	Way    string   // the alternatives
}

func (e *UnfitError) Error() string {
	wants := strings.Join(e.Wants, "\n  ")
	return fmt.Sprintf("--driver %s cannot run this:\n  %s\n%s", e.Driver, wants, e.Way)
}

// machinesCan is the alternative that always exists.
const machinesCan = "a lab of machines can: --driver libvirt"

// unfit returns an [*UnfitError] where an order asks for more than the lab can do.
func unfit(driver string, wants []string, furtherWays string) error {
	if len(wants) == 0 {
		return nil
	}
	return &UnfitError{Driver: driver, Wants: wants, Way: machinesCan + furtherWays}
}

// refuseKernels refuses an order for another kernel than the one that the lab's DUT has. An
// experiment that names no kernel has the default, which does not count as a wish.
func (o Order) refuseKernels(d driver) error {
	var wants []string
	for i := range o.Scenarios {
		s := &o.Scenarios[i]
		if s.DUT.Kernel != scenarios.DefaultKernel && s.DUT.Kernel != d.kernel {
			wants = append(wants, "scenario "+s.Name+" asks for the kernel "+s.DUT.Kernel+
				"; there is no choice here")
		}
		if d.kernel != "" {
			s.DUT.Kernel = d.kernel
		}
	}
	return unfit(d.name, wants, "")
}

// refuseActions refuses an order with actions that the lab cannot perform.
func (o Order) refuseActions(driver string, cannot func(scenarios.Action) bool) error {
	var wants []string
	for _, s := range o.Scenarios {
		for _, a := range s.Actions {
			if cannot(a) {
				wants = append(wants,
					fmt.Sprintf("scenario %s has the action %s of %s", s.Name, a.Kind, a.Where()))
			}
		}
	}
	return unfit(driver, wants, "")
}

// stopsDUT reports whether an action stops the DUT, or cuts its power.
func stopsDUT(a scenarios.Action) bool {
	return a.Kind.Fact().Stops && a.Node == wiring.DUT
}

// Pace holds the times of a lab that an experiment does not set, as measured on hosts of two cores.
type Pace struct {
	Lab       float64 // seconds to make the lab, once
	Boot      float64 // seconds until the nodes of a trial answer
	Around    float64 // seconds of a trial besides boot, load, recovery and the lead of probes
	PerSecond float64 // attempts that a load offers and completes where the answers set its pace
	Early     bool    // the DUT boots while the trial before it ends
}

// The paces of this host's machines.
var (
	EmulatedPace = Pace{Lab: 1.5, Boot: 2.8, Around: 2.2, PerSecond: 900, Early: true}
	KVMPace      = Pace{Lab: 1.5, Boot: 1.2, Around: 1, PerSecond: 6000, Early: true}

	namespacesPace = Pace{Lab: 0.5, Boot: 0.1, Around: 0.3, PerSecond: 10000}
	boxPace        = Pace{Lab: 60, Boot: 15, Around: 3, PerSecond: 900}
)

// Expected is a pace that a lab may have.
type Expected struct {
	Pace
	Parallel int    // concurrent trials
	Note     string // for the user, after the estimated time; may be empty
}

// Paces returns the paces that the lab may have, before the lab exists. cache is as in [Order].
func (c Choice) Paces(cache string) []Expected {
	if d, err := c.driver(); err == nil {
		return d.paces(c, cache)
	}
	return nil
}
