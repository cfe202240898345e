package link

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HelperRole is the name under which this program replaces qemu-bridge-helper(8). A libvirt daemon
// in session mode starts it, without capabilities, for each card of a machine on a bridge. QEMU's
// own helper must be setuid root and needs a file below /etc.
const HelperRole = "ctload-bridge-helper"

// RunHelper runs the process called [HelperRole]: it opens the tap that [Prepare] has made and
// passes its descriptor on. It takes QEMU's arguments: --br=BRIDGE --fd=SOCKET and --use-vnet. It
// returns the exit status.
func RunHelper() int {
	if err := runHelper(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runHelper(args []string) error {
	bridge, socket, flags := "", -1, uint16(unix.IFF_TAP|unix.IFF_NO_PI)
	for _, arg := range args {
		option, value, _ := strings.Cut(arg, "=")
		switch option {
		case "--br":
			bridge = value
		case "--fd":
			fd, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%s: %w", arg, err)
			}
			socket = fd
		case "--use-vnet":
			flags |= unix.IFF_VNET_HDR
		}
	}
	if bridge == "" || socket < 0 {
		return fmt.Errorf("usage: %s --br=BRIDGE --fd=SOCKET [--use-vnet]", HelperRole)
	}
	name := preparedTap(bridge)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("open tap %s: %w", name, err)
	}
	request.SetUint16(flags)
	tap, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(tap)
	if err := unix.IoctlIfreq(tap, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("open tap %s: %w", name, err)
	}
	err = unix.Sendmsg(socket, []byte{0}, unix.UnixRights(tap), nil, 0)
	return wrap(err, "hand tap %s over", name)
}

// preparedTap returns the name of the tap of a bridge's one machine.
func preparedTap(bridge string) string { return "card-" + bridge }

// Prepare makes a tap on the named bridge for its one machine, unless it exists. [RunHelper] opens
// it later. The user owns the tap, so that opening it takes no privilege.
func Prepare(bridge string) error {
	found, err := lookUp(bridge)
	if err != nil {
		return err
	}
	b, ok := found.(*netlink.Bridge)
	if !ok {
		return fmt.Errorf("%s is no bridge", bridge)
	}
	tap := preparedTap(bridge)
	if _, err := netlink.LinkByName(tap); err == nil {
		return nil
	}
	if err := AddTap(tap); err != nil {
		return err
	}
	return (&Bridge{bridge: b}).Join(tap)
}

// Name returns the bridge's name.
func (b *Bridge) Name() string { return b.bridge.Name }
