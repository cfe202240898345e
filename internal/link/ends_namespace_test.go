package link

import (
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/netnstest"
)

// TestEnds impairs the link of a namespace. Shaping depends on this host's kernel.
func TestEnds(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		node := exec.Command("sleep", "60")
		node.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		}
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = node.Process.Kill(), node.Wait() }()
		bridge, err := newBridge("b0")
		if err != nil {
			t.Fatal(err)
		}
		if err := bridge.AddVeth("v0", "eth0", nil, node.Process.Pid); err != nil {
			t.Fatal(err)
		}
		var ends Ends
		leave := ends.Add(End{Node: "client", Link: "lan", Name: "v0", Bridge: bridge})
		look := func() (master int, up bool) {
			port, err := netlink.LinkByName("v0")
			if err != nil {
				t.Fatal(err)
			}
			return port.Attrs().MasterIndex, port.Attrs().Flags&net.FlagUp != 0
		}
		set := func(c Conditions) {
			t.Helper()
			now, err := ends.SetLink(t.Context(), "client", "lan", c)
			if err != nil {
				t.Error(err)
			}
			if now != c {
				t.Errorf("%v reads back as %v", c, now)
			}
		}
		set(Conditions{Partitioned: true})
		if master, up := look(); master != 0 || !up {
			t.Errorf("parted, it is on bridge %d, up: %v", master, up)
		}
		set(Conditions{Down: true})
		if master, up := look(); master == 0 || up {
			t.Errorf("down, it is on bridge %d, up: %v", master, up)
		}
		now, err := ends.ClearLink(t.Context(), "client", "lan")
		if err != nil || now != (Conditions{}) {
			t.Errorf("in order, it reads back as %v (%v)", now, err)
		}
		if master, up := look(); master == 0 || !up {
			t.Errorf("in order, it is on bridge %d, up: %v", master, up)
		}

		lossy := Conditions{Delay: 10 * time.Millisecond, Loss: 0.5}
		now, err = ends.SetLink(t.Context(), "client", "lan", lossy)
		switch missing := missingNetem(); {
		case missing == "":
			if err != nil || !now.Near(lossy) {
				t.Errorf("shaped, it reads back as %v (%v)", now, err)
			}
		case err == nil || !strings.Contains(err.Error(), missing) ||
			!strings.Contains(err.Error(), "on the side of a machine"):
			t.Errorf("this kernel cannot shape (%s), and the error is %v", missing, err)
		}
		if err := leave(); err != nil {
			t.Error(err)
		}
		_, err = ends.SetLink(t.Context(), "client", "lan", Conditions{Down: true})
		if err == nil {
			t.Error("a link that was left can be set")
		}
		if links, err := netlink.LinkList(); err != nil || len(links) != 3 { // lo, b0, v0
			t.Errorf("%d links are left (%v)", len(links), err)
		}
	})
}
