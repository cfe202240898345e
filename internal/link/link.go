// Package link makes the isolated links of a lab in the network namespace of the caller: a bridge,
// with taps for virtual machines and veth pairs for load nodes on it. None of them has an address
// or a route, so that no frame can leave the namespace.
//
// It needs CAP_NET_ADMIN in that namespace, and /dev/net/tun for taps.
package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/actions"
)

// Conditions say what a link does to the frames between one node and the other nodes.
type Conditions = actions.Conditions

// Bridge is one link of a lab.
type Bridge struct {
	bridge *netlink.Bridge
}

// newBridge makes a bridge with the given name (at most 15 bytes).
func newBridge(name string) (*Bridge, error) {
	// A bridge that follows the nodes' groups joins one itself, and tells the nodes.
	bridge := &netlink.Bridge{LinkAttrs: named(name, -1), MulticastSnooping: new(bool)}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", name, err)
	}
	up := errors.Join(silence(name), netlink.LinkSetUp(bridge))
	return &Bridge{bridge: bridge}, wrap(up, "bring bridge %s up", name)
}

// named returns the attributes of an interface that is not made yet; a queue of -1 packets has the
// kernel's default.
func named(name string, queue int) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.TxQLen = name, queue
	return attrs
}

// wrap returns an error with the words of what failed; nil without one.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// Close removes the bridge.
func (b *Bridge) Close() error {
	return wrap(netlink.LinkDel(b.bridge), "remove bridge %s", b.bridge.Name)
}

// Bridges are the links of a lab by their names, with the lab's ends of them. The zero value is
// ready for use.
type Bridges struct {
	Ends
	byName map[string]*Bridge
}

// Bridge returns the bridge for the link of that name. The first call makes it.
func (b *Bridges) Bridge(name string) (*Bridge, error) {
	if bridge, ok := b.byName[name]; ok {
		return bridge, nil
	}
	bridge, err := newBridge(fmt.Sprintf("ctload%d", len(b.byName)))
	if err != nil {
		return nil, err
	}
	if b.byName == nil {
		b.byName = map[string]*Bridge{}
	}
	b.byName[name] = bridge
	return bridge, nil
}

// Close removes the bridges.
func (b *Bridges) Close() error {
	var errs []error
	for _, bridge := range b.byName {
		errs = append(errs, bridge.Close())
	}
	return errors.Join(errs...)
}

// queueLength, in packets, absorbs any burst that a slow guest has not read yet, so that only the
// DUT drops packets.
const queueLength = 10000

// AddTap makes a tap for a virtual machine's network card. It passes no frame until it joins a
// bridge ([Bridge.Join]). The caller removes it with [Remove].
func AddTap(name string) error {
	tap := &netlink.Tuntap{
		LinkAttrs: named(name, -1), Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		// The default owner, root, does not exist in the sandbox.
		Owner: uint32(os.Getuid()), Group: uint32(os.Getgid()),
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("make tap %s: %w", name, err)
	}
	// The kernel makes a tap with the default length, regardless of the request.
	if err := netlink.LinkSetTxQLen(tap, queueLength); err != nil {
		return errors.Join(fmt.Errorf("lengthen the queue of tap %s: %w", name, err), Remove(name))
	}
	return nil
}

// AddVeth makes a veth pair, one end on the bridge, the other in the network namespace of the
// process pid under the name inner, with the hardware address mac; nil: a random one.
func (b *Bridge) AddVeth(name, inner string, mac net.HardwareAddr, pid int) error {
	veth := &netlink.Veth{
		LinkAttrs: named(name, queueLength), PeerName: inner, PeerHardwareAddr: mac,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth pair %s: %w", name, err)
	}
	if err := b.attach(veth); err != nil {
		return errors.Join(err, Remove(name))
	}
	return nil
}

func (b *Bridge) attach(port netlink.Link) error {
	name := port.Attrs().Name
	if err := netlink.LinkSetMaster(port, b.bridge); err != nil {
		return fmt.Errorf("attach %s to bridge %s: %w", name, b.bridge.Name, err)
	}
	return wrap(errors.Join(silence(name), netlink.LinkSetUp(port)), "bring %s up", name)
}

// silence keeps a device of the lab from sending frames of its own to the nodes: neighbour
// discovery and multicast reports of IPv6.
func silence(name string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) { // this kernel has no IPv6
		return nil
	}
	return err
}

func lookUp(name string) (netlink.Link, error) {
	port, err := netlink.LinkByName(name)
	return port, wrap(err, "look up %s", name)
}

// lookFor returns the interface of that name, or nil without one.
func lookFor(name string) (netlink.Link, error) {
	port, err := lookUp(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil
	}
	return port, err
}

// Remove removes a tap, or a veth pair by the name of one end. A missing interface is no error.
func Remove(name string) error {
	port, err := lookFor(name)
	if err != nil || port == nil {
		return err
	}
	return wrap(netlink.LinkDel(port), "remove %s", name)
}

// part takes a tap or one end of a veth pair off its bridge. Then no frame passes, while the other
// end still sees a carrier.
func part(name string) error {
	port, err := lookUp(name)
	if err != nil {
		return err
	}
	return wrap(netlink.LinkSetNoMaster(port), "take %s off its bridge", name)
}

// Join puts a tap or one end of a veth pair on the bridge, unless it is there already.
func (b *Bridge) Join(name string) error {
	port, err := lookUp(name)
	if err != nil {
		return err
	}
	return b.attach(port)
}

// state reports whether a tap or veth is on a bridge, and whether it is up.
func state(name string) (joined, up bool, err error) {
	port, err := lookUp(name)
	if err != nil {
		return false, false, err
	}
	return port.Attrs().MasterIndex != 0, port.Attrs().Flags&net.FlagUp != 0, nil
}

// setUp brings the lab's end of a veth pair up or down, which sets the carrier of the other end.
func setUp(name string, up bool) error {
	port, err := lookUp(name)
	if err != nil {
		return err
	}
	if up {
		return wrap(netlink.LinkSetUp(port), "bring %s up", name)
	}
	return wrap(netlink.LinkSetDown(port), "bring %s down", name)
}
