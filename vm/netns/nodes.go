package netns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
)

// joinLimit bounds the start of a node, which takes some 20 ms.
const joinLimit = 9 * time.Second

// Nodes starts nodes of a lab in network namespaces of their own. The lab's machines join the same
// links and take numbers from the same sequence. The zero value is ready for use.
type Nodes struct {
	link.Bridges

	environment []string // of the agents, as KEY=value, besides the caller's
	last        int      // number given last
}

// Number returns the next number of a node: names and hardware addresses never repeat.
func (s *Nodes) Number() int {
	s.last++
	return s.last
}

// MAC returns the hardware address of a node's card, in QEMU's range for local use.
func MAC(number, card int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0, byte(number >> 8), byte(number), byte(card)}
}

// Join starts a load node.
func (s *Nodes) Join(ctx context.Context, load vm.LoadNode) (vm.Node, error) {
	n, err := s.start(ctx, load.Name, load.Port)
	if err != nil {
		return nil, err
	}
	return &loadNode{node: n}, nil
}

// start starts a namespace with a card on each link, named eth0, eth1 and so on, or as its port is.
func (s *Nodes) start(ctx context.Context, name string, ports ...vm.Port) (_ *node, err error) {
	child, err := agent.StartChild(name, s.environment...)
	if err != nil {
		return nil, err
	}
	n := &node{name: name, child: child}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	late := fmt.Errorf("the agent of %s did not answer within %v", name, joinLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, joinLimit, late)
	defer cancel()
	number := s.Number()
	for i, port := range ports {
		bridge, err := s.Bridge(port.Link)
		if err != nil {
			return nil, err
		}
		mac, veth := MAC(number, i), fmt.Sprintf("veth%d.%d", number, i)
		card := cmp.Or(port.Name, fmt.Sprintf("eth%d", i))
		if err := bridge.AddVeth(veth, card, mac, child.Pid()); err != nil {
			return nil, err
		}
		n.veths = append(n.veths, veth)
		end := link.End{Node: name, Link: port.Link, Name: veth, Bridge: bridge}
		n.leave = append(n.leave, s.Add(end))
		if err := child.Network(ctx, port.Network(mac.String())); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// node is an agent in a network namespace of its own.
type node struct {
	name  string
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
// the next trial until then, and close the connections of that trial.
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

// loadNode is a node that can be paused. The DUT cannot: its kernel is the host's.
type loadNode struct {
	*node
}

// Pause implements [vm.Pausable].
func (n *loadNode) Pause(context.Context) error { return n.child.Pause() }

// Resume implements [vm.Pausable].
func (n *loadNode) Resume(context.Context) error { return n.child.Resume() }

// Paused implements [vm.Pausable].
func (n *loadNode) Paused(context.Context) (bool, error) { return n.child.Paused() }

var _ vm.Pausable = (*loadNode)(nil)
