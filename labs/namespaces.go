package labs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/netns"
	"github.com/ctload/ctload/vm/sandbox"
)

// UnfitError reports that an experiment asks for what the chosen lab cannot do, and which lab can.
type UnfitError struct {
	Driver string
	Wants  []string // scenarios and their wishes, a phrase each
	Way    string   // the alternatives
}

func (e *UnfitError) Error() string {
	return fmt.Sprintf("--driver %s cannot run this:\n  %s\n%s", e.Driver, strings.Join(e.Wants, "\n  "), e.Way)
}

// machinesCan is the alternative that always exists.
const machinesCan = "a lab of machines can: --driver libvirt"

// refuseHostWide refuses scenarios that stop their DUT, whose kernel is the host's, or run faulty
// command lines on it. It also refuses, unless that is allowed, scenarios that change settings of
// that kernel beyond the DUT's own.
func refuseHostWide(o Order) error {
	hostWide := func(a scenarios.Action) bool { return stopsDUT(a) || a.Kind.Fact().Host != "" }
	if err := o.refuseActions(netns.Driver, hostWide); err != nil {
		return err
	}
	var wants []string
	for _, s := range o.Scenarios {
		if len(s.DUT.Refused) > 0 {
			wants = append(wants, fmt.Sprintf("scenario %s runs command lines with a mistake (refused), which would meet the host's own kernel", s.Name))
		}
	}
	if len(wants) > 0 {
		return &UnfitError{Driver: netns.Driver, Wants: wants, Way: machinesCan + "; or leave these out with --scenario"}
	}
	if o.Choice.AllowHostChanges {
		return nil
	}
	for _, s := range o.Scenarios {
		asked, err := wiring.Settings(o.Experiment.Topology, s.DUT)
		if err != nil {
			return err
		}
		if list := netns.HostWide(asked); len(list) > 0 {
			wants = append(wants, fmt.Sprintf("scenario %s changes what is the whole host's: %s", s.Name, strings.Join(list, ", ")))
		}
	}
	if len(wants) > 0 {
		return &UnfitError{
			Driver: netns.Driver, Wants: wants,
			Way: machinesCan + "; or leave these out with --scenario; or let the host be changed and put back: sudo ctload run --driver netns --allow-host-changes",
		}
	}
	return nil
}

// adaptToHost gives the scenarios the kernel, the CPUs and the memory of a namespace: those of this
// host.
func adaptToHost(list []scenarios.Resolved) {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail with a valid address
	for i := range list {
		dut := &list[i].DUT
		dut.VCPUs, dut.Memory = runtime.NumCPU(), scenarios.Size(info.Totalram*uint64(info.Unit))
	}
}

// prepareNamespaces checks what a lab of namespaces needs: a sandbox, connection tracking in the
// host's kernel, the rule tools, and a host that no killed run has left changed.
func prepareNamespaces(ctx context.Context, o Order) error {
	if err := checkNamespaces(ctx, o.Choice.AllowHostChanges); err != nil {
		return err
	}
	for _, s := range o.Scenarios {
		asked, err := wiring.Settings(o.Experiment.Topology, s.DUT)
		if err != nil {
			return err
		}
		for _, tool := range asked.Tools() {
			if !found(tool) {
				return &guest.MissingError{What: "there is no " + tool + ", which the rules of " + s.Name + " need", Fix: "sudo apt-get install --no-install-recommends iptables nftables"}
			}
		}
	}
	if err := o.mendHost(ctx); err != nil {
		return err
	}
	return o.checkModules(ctx)
}

// checkModules checks that the modules that scenarios need can be loaded and unloaded on this host.
func (o Order) checkModules(ctx context.Context) error {
	for _, s := range o.Scenarios {
		asked, err := wiring.Settings(o.Experiment.Topology, s.DUT)
		if err != nil {
			return err
		}
		if err := netns.CheckModules(ctx, asked); err != nil {
			return &guest.MissingError{What: "scenario " + s.Name + " cannot have its modules here", Err: err, Fix: machinesCan}
		}
	}
	return nil
}

// checkNamespaces returns an error for what this host lacks for a lab of namespaces.
func checkNamespaces(ctx context.Context, changes bool) error {
	if changes {
		if err := netns.Changeable(); err != nil {
			return &guest.MissingError{What: "the settings of this host cannot be changed", Err: err, Fix: "sudo ctload run ..., outside of containers"}
		}
	} else if err := sandbox.CheckNamespaces(ctx); err != nil {
		return err
	}
	if !netns.Tracks() {
		return &guest.MissingError{What: "connection tracking (nf_conntrack) is not in this host's kernel", Fix: "sudo modprobe nf_conntrack"}
	}
	return nil
}

// mendHost restores the settings that a killed run has left changed, where it may, or says how to.
// It refuses to measure on a host that another run is changing.
func (o Order) mendHost(ctx context.Context) error {
	state, err := journal.Folder()
	if err != nil {
		return err
	}
	ofHost := func(e journal.Entry) bool { return e.Kind.OfHost() }
	var left []string
	var changing error
	err = journal.Collect(ctx, journal.Options{
		Folder: state, Removers: removers, DryRun: !o.Choice.AllowHostChanges, Only: ofHost,
		Tell: func(f journal.Finding) {
			switch {
			case f.State == journal.There:
				left = append(left, f.Entry.String())
			case f.State == journal.Alive && slices.ContainsFunc(f.Has, ofHost):
				changing = &guest.MissingError{
					What: fmt.Sprintf("another run (%s, process %d) is changing this host's settings", f.Run.Label, f.Run.PID), Fix: "wait for its end",
				}
			}
		},
	})
	if len(left) > 0 {
		err = errors.Join(err, &guest.MissingError{
			What: "a run that was killed has left this host changed: " + strings.Join(left, ", "), Fix: "sudo ctload gc",
		})
	}
	return errors.Join(err, changing)
}

// openNamespaces makes a lab of namespaces in the sandbox that this process is in.
func openNamespaces(_ context.Context, s *Site) (vm.Lab, error) {
	// Check again: only inside a namespace does the kernel show which parameters a namespace has.
	if err := refuseHostWide(s.Order); err != nil {
		return nil, err
	}
	s.Note("the DUT is a namespace: its kernel, its CPUs and its memory are this host's, whatever the experiment says of them")
	if s.journal == nil {
		return netns.Open(s.Folder, nil), nil
	}
	return netns.Open(s.Folder, netns.NewSettings(s.journal)), nil
}
