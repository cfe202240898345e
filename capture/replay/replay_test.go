package replay

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/scenarios"
)

// captured makes a capture of a server with n entries in each of some states.
func captured(n int) *capture.Capture {
	c := &capture.Capture{Schema: 1, Kernel: "6.12.9-amd64", CPUs: 8,
		Settings: map[string]string{kernels.Prefix + "tcp_timeout_time_wait": "60",
			kernels.Prefix + "udp_timeout": "30", kernels.Prefix + "tcp_loose": "0"}}
	limit, buckets := int64(16384), int64(8192)
	c.Sizes.Max, c.Sizes.Buckets = &limit, &buckets
	add := func(protocol, state string, port uint16, left int, assured bool) {
		client := netip.AddrFrom4([4]byte{10, 9, byte(len(c.Table.Entries) % 40), 7})
		server := netip.MustParseAddr("192.0.2.80")
		c.Table.Entries = append(c.Table.Entries, capture.Entry{
			Protocol: protocol, State: state, Left: int64(left), Assured: assured,
			Original: capture.Tuple{Source: client, Destination: server, SourcePort: 5000,
				DestinationPort: port},
			Reply: capture.Tuple{Source: server, Destination: client, SourcePort: port,
				DestinationPort: 5000},
		})
	}
	for i := range n {
		add("tcp", "TIME_WAIT", 443, i*60/n, true)
		add("tcp", "ESTABLISHED", 443, 431_995, true)
		add("udp", "", 53, i*30/n, false)
	}
	c.Table.Scope, c.Table.Whole = capture.Whole, int64(len(c.Table.Entries))
	return c
}

// made makes the experiment, and reads it again.
func made(t *testing.T, c *capture.Capture, o Options) (*scenarios.Experiment, string) {
	t.Helper()
	o.Name = "test"
	draft, err := Experiment(c, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := draft.Text()
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := scenarios.Parse("test", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return e, string(text)
}

// TestExperiment_Scale keeps fill, max/hash and the entries of each kind at every scale.
func TestExperiment_Scale(t *testing.T) {
	c := captured(2000)
	for _, o := range []Options{{}, {Scale: 4}, {Scale: 3, Faster: 2}} {
		e, text := made(t, c, o)
		limit, _ := e.DUT.Sysctl.Get(kernels.KeyMax)
		n, err := strconv.ParseFloat(limit, 64)
		if err != nil {
			t.Fatal(err)
		}
		scale := 16384 / n
		if n != 2*float64(e.DUT.Buckets) || math.Abs(scale/max(1, o.Scale)-1) > 0.15 {
			t.Errorf("max %s, hash %d at scale %g", limit, e.DUT.Buckets, o.Scale)
		}
		faster := max(1, o.Faster)
		living := map[string]float64{}
		for _, w := range e.Workload {
			timeout := map[scenarios.Generator]float64{scenarios.TCP: 60, scenarios.UDP: 30}
			living[w.Name] = float64(w.Rate) * (timeout[w.Generator]/faster +
				w.Lifetime.Mean.Seconds())
		}
		// 2000 in TIME_WAIT and their 2000 established ones, 2000 flows of UDP.
		for name, want := range map[string]float64{
			"tcp-443-closed": 4000, "udp-53-answered": 2000,
		} {
			if got := living[name] * scale; math.Abs(got/want-1) > 0.01 {
				t.Errorf("%s holds %g entries, want %g\n%s", name, got, want, text)
			}
		}
		wait, _ := e.DUT.Sysctl.Get(kernels.Prefix + "tcp_timeout_time_wait")
		if wait != fmt.Sprint(60/faster) || e.DUT.Kernel != "debian/trixie" || e.DUT.VCPUs != 4 {
			t.Errorf("time_wait %s, kernel %s, %d CPUs", wait, e.DUT.Kernel, e.DUT.VCPUs)
		}
		if loose, _ := e.DUT.Sysctl.Get(kernels.Prefix + "tcp_loose"); loose != "0" {
			t.Errorf("tcp_loose is %q", loose)
		}
	}
}

// TestExperiment_Full raises what a full table let in, and expects refusals again.
func TestExperiment_Full(t *testing.T) {
	c := captured(2000)
	limit := int64(6000)
	c.Sizes.Max, c.Sizes.Count = &limit, &limit
	e, text := made(t, c, Options{})
	want := scenarios.Threshold{Scenario: asCaptured, Expression: "conntrack.drop > 0"}
	has := slices.ContainsFunc(e.Thresholds, func(x scenarios.Threshold) bool {
		return x.Scenario == want.Scenario && x.Expression == want.Expression
	})
	i := slices.IndexFunc(e.Workload, func(w scenarios.Entry) bool {
		return w.Name == "udp-53-answered"
	})
	if !has || math.Abs(float64(e.Workload[i].Rate)/(2000.0/30*1.1)-1) > 0.01 {
		t.Errorf("%s", text)
	}
}

// TestExperiment_Rules maps the names of the host to those of the lab.
func TestExperiment_Rules(t *testing.T) {
	c := captured(100)
	for i := range c.Table.Entries { // forwarded, behind one address
		e := &c.Table.Entries[i]
		e.Reply.Destination = netip.MustParseAddr("203.0.113.7")
	}
	c.Rules.IPv4 = `*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.9.0.0/16 -o wan0 -j SNAT --to-source 203.0.113.7
COMMIT
*filter
-A FORWARD -i lan0 -s 10.9.3.7/32 -j ACCEPT
-A FORWARD -d 192.0.2.80 -m set --match-set good src,dst -j ACCEPT
-A FORWARD -s 198.51.100.9 -j DROP
COMMIT
`
	c.Rules.NFT = "# Warning: table ip nat is managed by iptables-nft, do not touch!\n" +
		"table ip nat {\n\tchain POSTROUTING {\n\t}\n}\ntable inet own {\n" +
		"\tchain c {\n\t\ttype filter hook prerouting priority 0;\n\t\tip saddr 10.9.3.7 accept\n" +
		"\t}\n}\n"
	e, text := made(t, c, Options{})
	for _, want := range []string{
		"-A POSTROUTING -s ${client.network} -o wan0 -j SNAT --to-source ${dut.server.address}",
		"-A FORWARD -i lan0 -s ${client.network} -j ACCEPT", "-d ${server.address} -m set",
		"-s 198.51.100.9 -j DROP", "create good hash:net,port", "wan0: server", "lan0: client",
		"ip saddr ${client.network} accept", "1 addresses in rules",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if e.Topology.Kind != scenarios.Router || strings.Contains(e.DUT.NFT, "table ip nat") {
		t.Errorf("%s\n%s", e.Topology.Kind, e.DUT.NFT)
	}
}
