package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctload/ctload/orchestrator"
)

// registerChoice adds the flags that choose the lab.
func registerChoice(flags *pflag.FlagSet, choice *orchestrator.Choice) {
	flags.StringVar(&choice.Driver, "driver", "libvirt", "where the DUT runs: "+strings.Join(orchestrator.Drivers(), ", "))
	flags.StringArrayVar(&choice.Connect, "connect", nil, "use the libvirt daemon at this URI instead of a private one; can be repeated")
	flags.StringVar(&choice.Box, "box", "", "vagrant: a box of the catalogue by its name, the path of a .box file, or build: one of this host's packages (default: the one built before, or debian/bookworm64)")
	flags.BoolVar(&choice.AllowHostChanges, "allow-host-changes", false, "netns: let scenarios change settings of this host, which are put back at the end")
	flags.StringVar(&choice.Accelerator, "accelerator", "", "kvm or tcg (default: kvm where a guest boots under it)")
}
