package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// ForbiddenError says that this host does not let the caller make a sandbox, and why.
type ForbiddenError struct {
	Reason string // the refused step, with the setting that refuses it where known
}

func (e *ForbiddenError) Error() string {
	return "this host does not let you make the lab's namespaces: " + e.Reason
}

// Fix lists the ways out.
func (e *ForbiddenError) Fix() string {
	return `any one of:
  1. run it as root:                        sudo ctload ...
  2. allow it for ctload (AppArmor):        sudo make apparmor-profile (see docs/install.md)
     or for everybody (sysctl):             sudo sysctl -w ` + strings.Join(allowing(), " ") + `
  3. use a libvirt daemon that exists:      ctload run --connect qemu:///system ...`
}

// Check makes a sandbox as [Run] does, makes in it what a lab of machines needs (mounts, a bridge,
// a tap) and ends it. The error is a *ForbiddenError when the host refuses. Check takes some 20 ms.
func Check(ctx context.Context) error { return check(ctx, withTap) }

// CheckNamespaces does what [Check] does for a lab without machines, which needs no tap.
func CheckNamespaces(ctx context.Context) error { return check(ctx) }

// withTap makes [RunCheck] try a tap as well.
const withTap = "tap"

func check(ctx context.Context, further ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := Command(ctx, CheckRole, further...).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("try the lab's namespaces: %w", ctx.Err())
	}
	reason := strings.TrimSpace(string(out))
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		reason = err.Error()
	}
	if why := culprit(slices.Contains(further, withTap)); why != "" {
		reason += " (" + why + ")"
	}
	return &ForbiddenError{Reason: reason}
}

// Command returns this program under another name, in namespaces as those of [Run].
func Command(ctx context.Context, role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = role
	cmd.SysProcAttr = namespaces()
	cmd.SysProcAttr.Pdeathsig = 0 // the calling goroutine's thread may end first
	return cmd
}

// RunCheck tries the steps in the process that [Check] started and returns its exit status.
func RunCheck() int {
	if err := tryAll(slices.Contains(os.Args[1:], withTap)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func tryAll(tap bool) error {
	if err := arrange(nil); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "check"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	if !tap {
		return nil
	}
	card := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: "checktap"}, Mode: netlink.TUNTAP_MODE_TAP,
		Owner: uint32(os.Getuid()), Group: uint32(os.Getgid()),
	}
	if err := netlink.LinkAdd(card); err != nil {
		return fmt.Errorf("make a tap (/dev/net/tun): %w", err)
	}
	return nil
}

// limit is a setting with which kernels or distributions forbid user namespaces.
type limit struct{ key, forbids, allows string }

var limits = []limit{
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	{"kernel.unprivileged_userns_clone", "0", "1"},
	{"user.max_user_namespaces", "0", "10000"},
}

func culprit(tap bool) string {
	for _, l := range limits {
		if l.forbid() {
			return l.key + " is " + l.forbids
		}
	}
	if tap && os.Getuid() != 0 && errors.Is(syscall.Access("/dev/net/tun", 6), syscall.EACCES) {
		return "/dev/net/tun is not yours to open; sudo chmod 0666 /dev/net/tun"
	}
	if _, err := os.Stat("/.dockerenv"); err == nil {
		return "this is a container; start it with --privileged"
	}
	return ""
}

func allowing() []string {
	var settings []string
	for _, l := range limits {
		if l.forbid() {
			settings = append(settings, l.key+"="+l.allows)
		}
	}
	if len(settings) == 0 {
		return []string{"kernel.unprivileged_userns_clone=1"}
	}
	return settings
}

func (l limit) forbid() bool {
	text, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(l.key, ".", "/"))
	return strings.TrimSpace(string(text)) == l.forbids
}
