package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// Choice says in which lab a plan is to be run, as a command line gives it.
type Choice struct {
	Driver           string   // one of [Drivers]; empty: libvirt
	Connect          []string // URIs of libvirt daemons that exist; none: a private daemon in the sandbox
	Accelerator      string   // kvm, tcg or empty; see libvirt.Options
	Box              string   // vagrant: a box; see vagrant.FindBox
	AllowHostChanges bool     // netns: settings of this host's kernel may be changed, and are put back
}

// driver is one way to have a lab.
type driver struct {
	name string // as --driver has it
	// connected is the driver's other self, for daemons that exist.
	connected bool
	// sandboxed says that the lab is made in the sandbox, by this program started again there; any other is
	// made by the process that the user started, and keeps a journal.
	sandboxed bool
	// kernels says that its machines boot the kernels that the experiment names.
	kernels bool
	// refuse says what in a plan or in the choice cannot be done in this lab, whatever the host; nil: nothing.
	refuse func(*Plan, Choice) error
	// prepare finds out, before anything starts, whether the host has what the lab needs.
	prepare func(context.Context, Job) error
	open    func(context.Context, Job, place) (vm.Lab, error)
}

// place is where a lab may keep things.
type place struct {
	folder  string           // for this run alone, with a path short enough for sockets; it ends with the run
	journal *journal.Journal // of what outlives a kill; nil in the sandbox, where nothing does
}

// drivers are the labs that there are.
var drivers = []driver{
	{name: "libvirt", sandboxed: true, kernels: true, prepare: prepareEmbedded, open: openEmbedded},
	{name: driverVagrant, sandboxed: true, prepare: prepareVagrant, open: openVagrant},
}

// Drivers are the names that [Choice] may have.
func Drivers() []string {
	var names []string
	for _, d := range drivers {
		if !slices.Contains(names, d.name) {
			names = append(names, d.name)
		}
	}
	return names
}

// driver is the chosen one. The error is the user's.
func (c Choice) driver() (driver, error) {
	name := c.Driver
	if name == "" {
		name = "libvirt"
	}
	if !slices.Contains(Drivers(), name) {
		return driver{}, fmt.Errorf("--driver %s: there is no such driver; %s", name, nearestOf(name, Drivers()))
	}
	for _, d := range drivers {
		if d.name == name && d.connected == (len(c.Connect) > 0) {
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("--connect %s: it does not go with --driver %s", c.Connect[0], name)
}

// nearestOf suggests the candidate that a word most likely means, or all of them.
func nearestOf(word string, candidates []string) string {
	best, distance := "", 1+len(word)/2
	for _, candidate := range candidates {
		if d := levenshtein.Distance(word, candidate, nil); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return "it is one of " + strings.Join(candidates, ", ")
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// Check says what in the choice, or in the plan, cannot be done there, whatever the host.
func (c Choice) Check(plan *Plan) error {
	d, err := c.driver()
	if err != nil {
		return err
	}
	if accelerators := []string{libvirt.KVM, libvirt.TCG}; c.Accelerator != "" && !slices.Contains(accelerators, c.Accelerator) {
		return fmt.Errorf("--accelerator %s: it is %s or %s", c.Accelerator, libvirt.KVM, libvirt.TCG)
	}
	if c.Box != "" && d.name != driverVagrant {
		return fmt.Errorf("--box %s: it goes with --driver %s alone", c.Box, driverVagrant)
	}
	if !d.kernels {
		if err := refuseKernels(plan, d.name); err != nil {
			return err
		}
	}
	if d.refuse == nil {
		return nil
	}
	return d.refuse(plan, c)
}

// Sandboxed reports whether the run is made by this program started again in the sandbox.
func (c Choice) Sandboxed() bool {
	d, err := c.driver()
	return err == nil && d.sandboxed && !sandbox.Inside()
}

// refuseKernels refuses a plan that asks for another kernel than every experiment does that asks for none,
// where the DUT has the kernel that is there.
func refuseKernels(plan *Plan, name string) error {
	var asking []string
	for _, s := range plan.Scenarios {
		if s.DUT.Kernel != scenarios.DefaultKernel {
			asking = append(asking, fmt.Sprintf("%s (%s)", s.Name, s.DUT.Kernel))
		}
	}
	if len(asking) == 0 {
		return nil
	}
	return fmt.Errorf("--driver %s has no kernel but the one that is there; these scenarios ask for another: %s. "+
		"The lab that can run them: --driver libvirt", name, strings.Join(asking, ", "))
}
