// Package netns makes labs of network namespaces on this host's kernel: the DUT is one, the load
// nodes are others, and nothing boots. It runs at the host's full speed.
//
// The DUT has its own network stack (addresses, rules, connection tracking with its count, counters
// and timeouts), but the host's kernel: nf_conntrack_max and the size of the hash are the host's,
// as are modules, memory and CPUs. The lab refuses scenarios that change those (see [HostWide])
// unless the caller gives it [Settings] of the host to change.
package netns

import (
	"context"
	"errors"
	"os"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/vm"
)

// Driver is the name of this driver in reports.
const Driver = "netns"

// Lab is a lab of namespaces. It runs in a sandbox (see vm/sandbox) and ends with it. Loss, delay
// and the like of its links need netem in this host's kernel.
type Lab struct {
	Nodes
	host *Settings // settings that may be changed; nil: none
}

// Open makes a lab with its temporary files in runtime. The nodes run the rule tools that the
// folder box holds apart from the host's files (see tuning.Boxed); empty: all of them beside those.
// host holds the host's settings that scenarios may change; nil: none. It needs the capabilities
// and namespaces of the sandbox.
func Open(runtime, box string, host *Settings) *Lab {
	// The tools of legacy iptables lock a file in /run, which only root can write.
	return &Lab{host: host, Nodes: Nodes{environment: []string{
		"XTABLES_LOCKFILE=" + runtime + "/xtables.lock", tuning.BoxEnvironment(box),
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin:/usr/bin:/bin",
	}}}
}

// About reports a lab without emulation.
func (l *Lab) About() vm.About { return vm.About{Driver: Driver} }

// Close removes the links and restores the host's settings.
func (l *Lab) Close() error { return errors.Join(l.Bridges.Close(), l.host.Restore()) }

// Boot starts a namespace as the DUT. It uses only the name and the ports of the machine: the
// kernel, its CPUs and its memory are the host's.
func (l *Lab) Boot(ctx context.Context, machine vm.Machine) (vm.Node, error) {
	if err := l.host.Restore(); err != nil { // undo the changes of the former trial
		return nil, err
	}
	n, err := l.start(ctx, machine.Name, machine.Ports...)
	if err != nil {
		return nil, err
	}
	return &dut{node: n, host: l.host}, nil
}

// dut is the namespace under test.
type dut struct {
	*node
	host *Settings // as the lab's
}

// Configure applies the host's settings, where allowed, and the others to the namespace.
func (d *dut) Configure(ctx context.Context, s tuning.Settings) error {
	host, own := split(s)
	if d.host != nil {
		if err := d.host.Apply(ctx, host); err != nil {
			return err
		}
	}
	return d.child.Configure(ctx, own)
}

var (
	_ vm.LinkFaulty = (*Lab)(nil)
	_ vm.Counting   = (*Lab)(nil)
	_ vm.Configurer = (*dut)(nil)
)
