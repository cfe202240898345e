package host

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/netnstest"
)

// production fills the table of this namespace with entries of a NAT router and returns how many
// are in which state, and the addresses.
func production(t *testing.T, n int) (states map[string]int, addresses map[string]bool) {
	t.Helper()
	conn, err := conntrack.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	states, addresses = map[string]int{}, map[string]bool{}
	r := rand.New(rand.NewPCG(7, 8))
	for i := range n {
		client := netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
		server := netip.AddrFrom4([4]byte{172, 16, 33, byte(r.IntN(250) + 1)})
		if i%10 == 9 {
			client = netip.MustParseAddr(fmt.Sprintf("fd42:77::%x:%x", i, i))
			server = netip.MustParseAddr("fd42:99::1")
		}
		addresses[client.String()], addresses[server.String()] = true, true
		protocol, state, port, left := uint8(6), "TIME_WAIT", uint16(443), uint32(1+r.IntN(119))
		status := conntrack.StatusSeenReply | conntrack.StatusAssured | conntrack.StatusConfirmed
		switch i % 5 {
		case 3:
			state, left = "ESTABLISHED", 431000
		case 4:
			protocol, state, port, left = 17, "", 53, uint32(1+r.IntN(29))
			status = conntrack.StatusConfirmed
		}
		own := uint16(20000 + i%30000)
		flow := conntrack.NewFlow(protocol, status, client, server, own, port, left, 0)
		if protocol == 6 {
			number := map[string]uint8{"TIME_WAIT": 7, "ESTABLISHED": 3}[state]
			flow.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: number}
		}
		if err := conn.Create(flow); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		states[state]++
	}
	return states, addresses
}

// TestTake_Production captures a table of 3000 entries by a prefix of its walk.
func TestTake_Production(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		const all, most = 3000, 1000
		states, addresses := production(t, all)
		c, err := Take(t.Context(), Options{Entries: most, Watch: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range c.Problems { // a namespace of a user shows neither log nor rules
			if !strings.Contains(problem, "permi") {
				t.Error(problem)
			}
		}
		// Entries of UDP may have expired before they were listed.
		if c.Table.Scope != capture.Prefix || len(c.Table.Entries) != most ||
			len(c.Counts) < 2 || c.Counts[0].Entries < all*8/10 || len(c.Counters) != 2 {
			t.Errorf("scope %q, %d entries, counts %v, %d readings of counters", c.Table.Scope,
				len(c.Table.Entries), c.Counts, len(c.Counters))
		}
		stay := 0
		for _, e := range c.Table.Entries {
			if e.Stays {
				stay++
			}
		}
		if c.Table.Between == 0 || stay < most/2 {
			t.Errorf("%d of %d entries stay for %g s", stay, most, c.Table.Between)
		}
		pseudonyms, err := capture.NewPseudonyms(false)
		if err != nil {
			t.Fatal(err)
		}
		pseudonyms.Hide(c)
		var file bytes.Buffer
		if err := capture.Write(&file, c); err != nil {
			t.Fatal(err)
		}
		size := file.Len()
		if size > most*50 {
			t.Errorf("%d bytes for %d entries", size, most)
		}
		text := unpack(t, file.Bytes())
		for a := range addresses {
			if strings.Contains(text, `"`+a+`"`) || strings.Contains(text, "10.77.") ||
				strings.Contains(text, "172.16.33.") || strings.Contains(text, "fd42") {
				t.Fatalf("the file holds %s", a)
			}
		}
		back, err := capture.Read(&file)
		if err != nil {
			t.Fatal(err)
		}
		x := explain.Explain(back, explain.Options{})
		want := float64(states["TIME_WAIT"]) / 120
		rate := 0.0
		for _, r := range x.Rates {
			if r.What == "closed connections" {
				rate = r.PerSecond
			}
		}
		// The standard error of a share of 60 % in 1000 entries is 2.6 %; 5 sigma.
		if math.Abs(rate/want-1) > 0.13 {
			t.Errorf("%g closed connections a second, want %g", rate, want)
		}
	})
}

// unpack returns the text of a capture's file.
func unpack(t *testing.T, file []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTake_Whole captures a small table as a whole, with the same entries as the kernel lists.
func TestTake_Whole(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		states, _ := production(t, 50)
		c, err := Take(t.Context(), Options{Entries: 100})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, e := range c.Table.Entries {
			got[e.State]++
			if e.Left < 0 || e.Left > 432000 || !e.Reply.Source.IsValid() {
				t.Errorf("%+v", e)
			}
		}
		if c.Table.Scope != capture.Whole || got["TIME_WAIT"] != states["TIME_WAIT"] ||
			got["ESTABLISHED"] != states["ESTABLISHED"] || c.Kernel != kernels.Running() {
			t.Errorf("%+v of %+v; %q, kernel %q", got, states, c.Table.Scope, c.Kernel)
		}
	})
}

// TestTake_Untracked says of a host without the module that it tracks nothing.
func TestTake_Untracked(t *testing.T) {
	c, err := Take(t.Context(), Options{Proc: t.TempDir(), Sys: t.TempDir(), Entries: 10})
	if err != nil || !c.Untracked || len(c.Problems) > 0 {
		t.Fatalf("%v: %+v", err, c)
	}
	x := explain.Explain(c, explain.Options{})
	if len(x.Findings) == 0 || x.Findings[0].Code != explain.Untracked {
		t.Errorf("%+v", x.Findings)
	}
}
