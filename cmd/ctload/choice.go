package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/vm/libvirt"
)

// registerChoice adds the flags that choose the lab.
func registerChoice(flags *pflag.FlagSet, choice *labs.Choice) {
	flags.Var(wordFlag(&choice.Driver, labs.Drivers()...), "driver", "where the DUT runs: "+strings.Join(labs.Drivers(), ", "))
	flags.Var(uriFlag(&choice.Connect), "connect", "use the libvirt daemon at this URI (qemu:///system, qemu+ssh://HOST/system, ...) instead of a private one; repeated: the DUT on the first, load nodes on the others")
	flags.Var(textFlag(&choice.Pool, "pool", "default"), "pool", "storage pool of those daemons for kernels (default: the one called default, else any folder)")
	flags.Var(textsFlag(&choice.Networks, "network", "br0"), "network", "bridge or libvirt network that all hosts have, for the links between them; once for each link (default: a VXLAN)")
	flags.Var(countFlag(&choice.Parallel, 1, 1000), "parallel", "trials at once, each on CPUs of its own of one host (default: one, on all hosts)")
	flags.Var(textFlag(&choice.Box, "box", "debian/bookworm64"), "box", "vagrant: a box of the catalogue by its name, the path of a .box file, or build: one of this host's packages (default: the one built before, or debian/bookworm64)")
	flags.BoolVar(&choice.AllowHostChanges, "allow-host-changes", false, "netns: let scenarios change settings of this host, which ctload puts back at the end")
	flags.Var(wordFlag(&choice.Accelerator, "", libvirt.KVM, libvirt.TCG), "accelerator", "kvm or tcg (default: kvm where a guest boots under it)")
}
