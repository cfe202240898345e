package labs

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
	"github.com/ctload/ctload/vm/vagrant"
)

// driverVagrant is the name of the driver of boxes.
const driverVagrant = "vagrant"

// refuseOnBox refuses what ctload cannot do to a machine that Vagrant has made, or to its side of
// the links.
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
	if err := sandbox.Check(ctx); err != nil {
		return err
	}
	if err := embedded.CheckHost(); err != nil {
		return err
	}
	if err := vagrant.CheckHost(ctx); err != nil {
		return err
	}
	_, err := vagrant.FindBox(ctx, o.Choice.Box, o.Cache, func(note string) { fmt.Fprintln(os.Stderr, note) })
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
