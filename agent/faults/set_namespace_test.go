package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

const tracked = "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"

// TestSetInNamespace makes faults in a namespace of this host's kernel and ends them as a node does
// whose stream ends.
func TestSetInNamespace(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "iptables-nft-restore", "iptables-nft-save", "nft")
		var kernel tuning.Kernel
		settings := tuning.Settings{Rules: tracked, NFT: "table ip own {\n chain c {\n" +
			" type filter hook input priority 5\n udp dport 9 counter\n }\n}\n"}
		if err := kernel.Apply(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		before, err := kernel.ReadBack(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		set := NewSet(Node{Kernel: kernel})
		apply := func(f Fault) Reading {
			t.Helper()
			reading, err := set.Apply(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			return reading
		}
		const timeout = "net.netfilter.nf_conntrack_udp_timeout"
		apply(Fault{ID: "1", Kind: actions.Sysctl, Sysctl: []tuning.Sysctl{{Key: timeout,
			Value: "5"}}})
		apply(Fault{ID: "2", Kind: actions.Sysctl, Sysctl: []tuning.Sysctl{{Key: timeout,
			Value: "6"}}})
		apply(Fault{ID: "3", Kind: actions.RulesLoad,
			Rules: Rules{IPv4: "*raw\n-A OUTPUT -p udp -j NOTRACK\nCOMMIT\n"}})
		apply(Fault{ID: "4", Kind: actions.RulesLoad,
			Rules: Rules{IPv4: "*raw\n-A OUTPUT -p udp --dport 9 -j NOTRACK\nCOMMIT\n", Add: true}})
		// The kernel hides the names of legacy tables from a user who became root of the namespace
		// later.
		if _, err := os.ReadFile("/proc/net/ip_tables_names"); !errors.Is(err, fs.ErrPermission) {
			apply(Fault{ID: "5", Kind: actions.RulesRemove})
		}
		if during, err := kernel.ReadBack(t.Context(), settings); err != nil ||
			len(tuning.Changes(before, during)) == 0 {
			t.Fatalf("nothing has changed (%v)", err)
		}
		if _, err := set.Revert(t.Context(), "3"); err != nil { // in the middle of others
			t.Fatal(err)
		}
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		after, err := kernel.ReadBack(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range tuning.Changes(before, after) {
			t.Errorf("left behind: %s", change)
		}

		for _, f := range []Fault{
			{Kind: actions.ClockJump, Clock: time.Hour}, {Kind: actions.CPUThrottle, CPU: 0.5},
			{Kind: actions.MemoryPressure}, {Kind: actions.ModuleRemove},
			{Kind: actions.Sysctl, Sysctl: []tuning.Sysctl{{Key: "vm.swappiness", Value: "1"}}},
		} {
			f.ID = "host"
			_, err := set.Apply(t.Context(), f)
			if _, ok := errors.AsType[*hostError](err); !ok {
				t.Errorf("%s in a namespace: %v", f.Kind, err)
			}
		}
	})
}

// TestEntriesInNamespace removes entries of a namespace's table.
func TestEntriesInNamespace(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "iptables-nft-restore")
		var kernel tuning.Kernel
		if err := kernel.Apply(t.Context(), tuning.Settings{Rules: tracked}); err != nil {
			t.Fatal(err)
		}
		const flows = 300
		for port := range flows {
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", 2000+port))
			if err != nil {
				t.Fatal(err)
			}
			// The port is closed: the second datagram would be refused.
			_, _ = conn.Write([]byte("x"))
			conn.Close()
		}
		count := func() string {
			text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(text))
		}
		full := count()
		set := NewSet(Node{Kernel: kernel})
		reading, err := set.Apply(context.Background(),
			Fault{ID: "1", Kind: actions.Delete, Delete: Filter{Protocol: "udp", Port: 2007}})
		if err != nil {
			t.Fatal(err)
		}
		if got := count(); full != "300" || got != "299" {
			t.Errorf("of %s entries %s are left, want 299 of 300: %+v", full, got, reading)
		}
		if _, err := set.Apply(context.Background(), Fault{ID: "2", Kind: actions.Delete,
			Delete: Filter{Destination: "127.0.0.0/8"}}); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != "0" {
			t.Errorf("%s entries are left", got)
		}
		if _, err := set.Apply(context.Background(), Fault{ID: "3",
			Kind: actions.Flush}); err != nil {
			t.Fatal(err)
		}
		if _, err := set.Revert(context.Background(), "3"); err == nil {
			t.Error("a flush can be reverted")
		}
	})
}
