package faults

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		want  string // in the error; empty: none
	}{
		{Fault{Kind: actions.Flush}, ""},
		{Fault{Kind: "flushh"}, `did you mean "flush"?`},
		{Fault{Kind: "coffee"}, "valid here: sysctl, buckets"},
		{Fault{Kind: actions.Sysctl}, "no parameter"},
		{Fault{Kind: actions.Sysctl, Sysctl: []tuning.Sysctl{{Key: "net/../../x", Value: "1"}}},
			"not the name of a kernel parameter"},
		{Fault{Kind: actions.Buckets}, "not a size"},
		{Fault{Kind: actions.RulesLoad}, "no rules"},
		{Fault{Kind: actions.RulesLoad, Rules: Rules{IPv4: "*raw\nCOMMIT\n", Backend: "ebpf"}},
			"ebpf"},
		{Fault{Kind: actions.Delete}, "for all entries there is flush"},
		{Fault{Kind: actions.Delete, Delete: Filter{State: "TIMEWAIT"}}, "TIME_WAIT"},
		{Fault{Kind: actions.Delete, Delete: Filter{State: "TIME_WAIT", Protocol: "udp"}},
			"of tcp alone"},
		{Fault{Kind: actions.Delete, Delete: Filter{Protocol: "tpc"}}, "neither a number nor"},
		{Fault{Kind: actions.Delete, Delete: Filter{Source: "10.0.0.0/33"}},
			"neither an address nor a network"},
		{Fault{Kind: actions.Delete, Delete: Filter{Protocol: "47", Destination: "fd00::/8"}}, ""},
		{Fault{Kind: actions.ModuleRemove}, ""},
		{Fault{Kind: actions.ModuleRemove, Modules: []string{"nf conntrack"}},
			"not the name of a module"},
		{Fault{Kind: actions.ClockJump}, "no time at all"},
		{Fault{Kind: actions.ClockJump, Clock: -time.Hour}, ""},
		{Fault{Kind: actions.CPUThrottle, CPU: 1}, "at most 0.95"},
		{Fault{Kind: actions.CPUThrottle}, "not above 0"},
		{Fault{Kind: actions.MemoryPressure, Leave: -1}, "-1 bytes"},
		{Fault{Kind: actions.Network}, "no condition is given"},
		{Fault{Kind: actions.Network, Conditions: link.Conditions{Down: true}}, "the lab can"},
		{Fault{Kind: actions.Network, Conditions: link.Conditions{Loss: 0.02}}, ""},
	} {
		err := Validate(c.fault)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.fault, err, c.want)
		}
	}
}

// TestMakers_EveryKind finds a maker for each kind of action that neither a lab nor a load makes.
func TestMakers_EveryKind(t *testing.T) {
	for _, fact := range actions.Table {
		if fact.Owns == actions.Nothing && fact.Kind != actions.Join &&
			makers[fact.Kind].make == nil {
			t.Errorf("the table has the action %s, and nothing makes it", fact.Kind)
		}
	}
}

// TestFaultTravels checks that a fault is unchanged after its way to a node.
func TestFaultTravels(t *testing.T) {
	f := Fault{
		ID: "1", Kind: actions.Network, Sysctl: []tuning.Sysctl{{Key: "a.b", Value: "1"}},
		Buckets: 7, Rules: Rules{NFT: "x", Add: true},
		Delete:  Filter{Protocol: "tcp", State: "CLOSE", Port: 80, Unassured: true},
		Modules: []string{"m"}, Clock: -time.Second, CPU: 0.5,
		Leave: 1 << 20, Ports: []uint16{80}, Card: "52:54:00:00:00:01",
		Conditions: link.Conditions{Loss: 0.1, Direction: actions.To},
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Fault
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, back); d != "" {
		t.Error(d)
	}
}

func TestFilterMatches(t *testing.T) {
	web := ctnetlink.Entry{
		Tuple: ctnetlink.Tuple{
			Protocol: 6, Source: netip.MustParseAddr("10.0.0.1"),
			Destination: netip.MustParseAddr("10.0.1.1"), SourcePort: 1234, DestinationPort: 80,
		}, State: 7, Assured: true,
	}
	dns := ctnetlink.Entry{Tuple: ctnetlink.Tuple{
		Protocol: 17, Source: netip.MustParseAddr("fd00::1"),
		Destination: netip.MustParseAddr("fd00::2"), SourcePort: 99, DestinationPort: 53,
	}, State: ctnetlink.NoState}
	for _, c := range []struct {
		filter   Filter
		web, dns bool
	}{
		{Filter{Protocol: "TCP"}, true, false},
		{Filter{State: "time_wait"}, true, false},
		{Filter{State: "CLOSE"}, false, false},
		{Filter{Port: 53}, false, true},
		{Filter{SourcePort: 1234}, true, false},
		{Filter{Unassured: true}, false, true},
		{Filter{Source: "10.0.0.0/24"}, true, false},
		{Filter{Destination: "10.0.0.0/24"}, false, false},
		{Filter{Destination: "fd00::2"}, false, true},
		{Filter{Protocol: "17", Source: "10.0.0.0/24"}, false, false},
	} {
		m, err := compile(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.matches(web); got != c.web {
			t.Errorf("%+v: the web entry: %v", c.filter, got)
		}
		if got := m.matches(dns); got != c.dns {
			t.Errorf("%+v: the dns entry: %v", c.filter, got)
		}
	}
}
