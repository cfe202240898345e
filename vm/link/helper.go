package link

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HelperRole is the name under which this program stands in for qemu-bridge-helper(8): a libvirt daemon in
// session mode starts it for each card of a machine that is to be on a bridge. QEMU's own wants to be
// setuid root and a file below /etc; in a sandbox neither is there, nor needed.
const HelperRole = "ctload-bridge-helper"

// RunHelper is what the process called [HelperRole] does: it makes a tap on the bridge and hands its
// descriptor over. The tap ends with that descriptor. It takes QEMU's arguments: --br=BRIDGE --fd=SOCKET and
// --use-vnet.
func RunHelper() int {
	if err := runHelper(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runHelper(args []string) error {
	name, socket, flags := "", -1, netlink.TUNTAP_NO_PI
	for _, arg := range args {
		option, value, _ := strings.Cut(arg, "=")
		switch option {
		case "--br":
			name = value
		case "--fd":
			fd, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%s: %w", arg, err)
			}
			socket = fd
		case "--use-vnet":
			flags |= netlink.TUNTAP_VNET_HDR
		}
	}
	if name == "" || socket < 0 {
		return fmt.Errorf("usage: %s --br=BRIDGE --fd=SOCKET [--use-vnet]", HelperRole)
	}
	found, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", name, err)
	}
	bridge, ok := found.(*netlink.Bridge)
	if !ok {
		return fmt.Errorf("%s is no bridge", name)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("card%d", os.Getpid())
	tap := &netlink.Tuntap{
		LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: flags, Queues: 1, NonPersist: true,
		Owner: uint32(os.Getuid()), Group: uint32(os.Getgid()),
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("make tap %s: %w", attrs.Name, err)
	}
	if err := netlink.LinkSetTxQLen(tap, queueLength); err != nil {
		return fmt.Errorf("lengthen the queue of tap %s: %w", attrs.Name, err)
	}
	if err := (&Bridge{bridge: bridge}).attach(tap); err != nil {
		return err
	}
	rights := unix.UnixRights(int(tap.Fds[0].Fd()))
	if err := unix.Sendmsg(socket, []byte{0}, rights, nil, 0); err != nil {
		return fmt.Errorf("hand tap %s over: %w", attrs.Name, err)
	}
	return nil
}

// Name is the bridge's.
func (b *Bridge) Name() string { return b.bridge.Name }
