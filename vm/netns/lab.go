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
	"fmt"
	"net"
	"os"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
)

// Driver is the name of this driver in reports.
const Driver = "netns"

// joinLimit bounds the start of a node, which takes some 20 ms.
const joinLimit = 30 * time.Second

// Lab is a lab of namespaces. It runs in a sandbox (see vm/sandbox) and ends with it.
type Lab struct {
	host    *Settings // settings that may be changed; nil: none
	lock    string    // path of the lock of the legacy rule tools
	bridges map[string]*link.Bridge
	serial  int // numbers the nodes, so that names never repeat

	link.Ends // of its nodes' links; loss, delay and the like need netem in this host's kernel
}

// Open makes a lab that keeps its temporary files in runtime. host holds the settings of the host
// that scenarios may change; nil: none. It needs the capabilities and the namespaces of the
// sandbox.
func Open(runtime string, host *Settings) *Lab {
	return &Lab{host: host, lock: runtime + "/xtables.lock", bridges: map[string]*link.Bridge{}}
}

// About reports a lab without emulation.
func (l *Lab) About() vm.About { return vm.About{Driver: Driver} }

// Close removes the links and restores the host's settings.
func (l *Lab) Close() error {
	var errs []error
	for _, bridge := range l.bridges {
		errs = append(errs, bridge.Close())
	}
	return errors.Join(append(errs, l.restore())...)
}

func (l *Lab) restore() error {
	if l.host == nil {
		return nil
	}
	return l.host.Restore()
}

// link returns the bridge of that name. The first call makes it.
func (l *Lab) link(name string) (*link.Bridge, error) {
	if bridge, ok := l.bridges[name]; ok {
		return bridge, nil
	}
	bridge, err := link.NewBridge(fmt.Sprintf("ctload%d", len(l.bridges)))
	if err != nil {
		return nil, err
	}
	l.bridges[name] = bridge
	return bridge, nil
}

// Boot starts a namespace as the DUT. It uses only the name and the ports of the machine: the
// kernel, its CPUs and its memory are the host's.
func (l *Lab) Boot(ctx context.Context, machine vm.Machine) (vm.Node, error) {
	if err := l.restore(); err != nil { // undo the changes of the former trial
		return nil, err
	}
	n, err := l.start(ctx, machine.Name, machine.Ports)
	if err != nil {
		return nil, err
	}
	return &dut{node: n}, nil
}

// Join starts a load node.
func (l *Lab) Join(ctx context.Context, load vm.LoadNode) (vm.Node, error) {
	n, err := l.start(ctx, load.Name, []vm.Port{load.Port})
	if err != nil {
		return nil, err
	}
	return &loadNode{node: n}, nil
}

// start starts a namespace with a card on each link, named eth0, eth1 and so on.
func (l *Lab) start(ctx context.Context, name string, ports []vm.Port) (_ *node, err error) {
	l.serial++
	// The tools of legacy iptables lock a file in /run, which only root can write.
	child, err := agent.StartChild(name, "XTABLES_LOCKFILE="+l.lock, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
	if err != nil {
		return nil, err
	}
	n := &node{name: name, lab: l, child: child}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, joinLimit, fmt.Errorf("the agent of %s did not answer within %v", name, joinLimit))
	defer cancel()
	for i, port := range ports {
		bridge, err := l.link(port.Link)
		if err != nil {
			return nil, err
		}
		mac := net.HardwareAddr{0x52, 0x54, 0, byte(l.serial >> 8), byte(l.serial), byte(i)}
		veth := fmt.Sprintf("veth%d.%d", l.serial, i)
		if err := bridge.AddCard(veth, fmt.Sprintf("eth%d", i), mac, child.Pid()); err != nil {
			return nil, err
		}
		n.veths = append(n.veths, veth)
		n.leave = append(n.leave, l.Ends.Add(link.End{Node: name, Link: port.Link, Name: veth, Bridge: bridge}))
		network := agent.Network{MAC: mac.String(), Addresses: port.Addresses, Routes: port.Routes, Local: port.Local}
		if err := child.Network(ctx, network); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// node is an agent in a network namespace of its own.
type node struct {
	name  string
	lab   *Lab
	child *agent.Child
	veths []string       // the lab's ends of its links
	leave []func() error // takes it off the links
}

func (n *node) Name() string         { return n.name }
func (n *node) Agent() *agent.Client { return n.child.Client }

// Console returns an empty text: the kernel's messages are the host's and not the node's alone.
func (n *node) Console() string { return "" }

// Close ends the node's links and then the agent's process. It first removes the links by name: the
// kernel removes a network namespace later, and a node with a link would answer for its address in
// the next trial until then.
func (n *node) Close() error {
	var errs []error
	for _, leave := range n.leave {
		errs = append(errs, leave())
	}
	for _, veth := range n.veths {
		errs = append(errs, link.Remove(veth))
	}
	return errors.Join(append(errs, n.child.Close())...)
}

// dut is the namespace under test.
type dut struct {
	*node
}

// Configure applies the host's settings to the host, where allowed, and the others to the
// namespace.
func (d *dut) Configure(ctx context.Context, s tuning.Settings) error {
	host, own := split(s)
	if d.lab.host != nil {
		if err := d.lab.host.Apply(ctx, host); err != nil {
			return err
		}
	}
	return d.child.Configure(ctx, own)
}

var (
	_ vm.Lab        = (*Lab)(nil)
	_ vm.Configurer = (*dut)(nil)
)
