package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctload/ctload/orchestrator"
)

// registerChoice adds the flags that choose the lab.
func registerChoice(flags *pflag.FlagSet, choice *orchestrator.Choice) {
	flags.StringVar(&choice.Driver, "driver", "libvirt", "where the DUT runs: "+strings.Join(orchestrator.Drivers(), ", "))
	flags.StringArrayVar(&choice.Connect, "connect", nil, "use the libvirt daemon at this URI (qemu:///system, qemu+ssh://HOST/system, ...) instead of a private one; repeated: the DUT on the first, load nodes on the others")
	flags.StringVar(&choice.Pool, "pool", "", "storage pool of those daemons for kernels (default: the one called default, else any folder)")
	flags.StringArrayVar(&choice.Networks, "network", nil, "bridge or libvirt network that all hosts have, for the links between them; once for each link (default: a VXLAN)")
	flags.IntVar(&choice.Parallel, "parallel", 0, "trials at once, each on CPUs of its own of one host (default: one, on all hosts)")
	flags.StringVar(&choice.Box, "box", "", "vagrant: a box of the catalogue by its name, the path of a .box file, or build: one of this host's packages (default: the one built before, or debian/bookworm64)")
	flags.BoolVar(&choice.AllowHostChanges, "allow-host-changes", false, "netns: let scenarios change settings of this host, which are put back at the end")
	flags.StringVar(&choice.Accelerator, "accelerator", "", "kvm or tcg (default: kvm where a guest boots under it)")
}
