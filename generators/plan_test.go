package generators

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

func TestValidate(t *testing.T) {
	good := Spec{Kind: HTTP, Target: "10.0.0.1", Ports: []uint16{80}, Count: 1, Concurrency: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	syn := with(good, func(s *Spec) { s.Kind, s.Sources = SYN, "10.1.0.0/24" })
	if err := syn.Validate(); err != nil {
		t.Fatal(err)
	}
	udp := with(syn, func(s *Spec) {
		s.Kind, s.Concurrency, s.Crafted, s.Payload = UDP, 0, true, 1452
	})
	if err := udp.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"unknown kind", func(s *Spec) { s.Kind = "ftp" }, `not "ftp"`},
		{"unbounded", func(s *Spec) { s.Count = 0 }, "a load needs a count or a duration"},
		{"undriven", func(s *Spec) { s.Concurrency = 0 }, "a load needs a rate or a concurrency"},
		{"hold for ever", func(s *Spec) { s.Kind = Hold }, "hold needs a duration"},
		{"undriven probe", func(s *Spec) { s.Kind = Probe }, "a probe needs a rate"},
		{"probe's protocol", func(s *Spec) { s.Kind, s.Rate, s.Protocol = Probe, 1, "sctp" },
			`protocol must be tcp, udp or icmp, not "sctp"`},
		{"close mode", func(s *Spec) { s.Close = "slam" },
			`close must be fin, rst, abandon or half-close, not "slam"`},
		{"side", func(s *Spec) { s.CloseBy = "me" }, `close by must be client or server, not "me"`},
		{"path", func(s *Spec) { s.Path = "x" }, `path "x"`},
		{"header smuggled", func(s *Spec) { s.Host = "x\r\nY: z" }, "cannot stand in a request"},
		{"negative", func(s *Spec) { s.Timeout = -1 }, "timeout must be 0 to 3600"},
		{"not a number", func(s *Spec) { s.Rate = math.NaN() }, "rate"},
		{"infinite", func(s *Spec) { s.Rate = math.Inf(1) }, "rate"},
		{"no ports", func(s *Spec) { s.Ports = nil }, "name a destination port"},
		{"ports for icmp", func(s *Spec) { s.Kind = ICMP }, "go to no port"},
		{"no target", func(s *Spec) { s.Target = "" }, "target"},
		{"a name", func(s *Spec) { s.Target = "localhost" }, "target"},
		{"public", func(s *Spec) { s.Target = "1.1.1.1" }, "1.1.1.1 is a public address"},
		{"public in a range", func(s *Spec) { s.Target = "10.255.255.0-11.0.0.5" },
			"is a public address"},
		{"public IPv6", func(s *Spec) { s.Target = "2600::1" }, "is a public address"},
		{"families", func(s *Spec) { s.Sources = "fd00::1" }, "different families"},
		{"sources", func(s *Spec) { s.Sources = "x" }, "sources"},
		{"source ports", func(s *Spec) { s.SourcePorts = "0" }, "source ports"},
		{"rate and profile", func(s *Spec) {
			s.Rate, s.Profile = 1, &Profile{Bursts: &pacing.Bursts{Size: 1, Every: 1}}
		}, "rate and profile exclude each other"},
		{"empty profile", func(s *Spec) { s.Profile = &Profile{} }, "not 0"},
		{"two profiles", func(s *Spec) {
			s.Profile = &Profile{
				Bursts: &pacing.Bursts{Size: 1, Every: 1}, Sine: &pacing.Sine{Mean: 1, Period: 1},
			}
		}, "not 2"},
		{"bad profile", func(s *Spec) { s.Profile = &Profile{Sine: &pacing.Sine{}} }, "a sine"},
		{"syn without sources", func(s *Spec) { s.Kind = SYN }, "no sources"},
		{"too few tuples", func(s *Spec) { *s = syn; s.SourcePorts, s.Count = "1-10", 2541 },
			"2541 wanted, 2540 tuples (254 sources x 10 source ports x 1 target x " +
				"1 target port); reuse would begin again"},
		{"too few tuples for the rate", func(s *Spec) {
			*s = syn
			s.SourcePorts, s.Count, s.Rate, s.Duration = "1-10", 0, 1000, 3*time.Second
		}, "3000 wanted, 2540 tuples"},
		{"too few tuples for the stages", func(s *Spec) {
			*s = udp
			s.SourcePorts, s.Count = "1-10", 0
			s.Profile = &Profile{Stages: pacing.Stages{{From: 0, To: 3000, Duration: 2e9}}}
		}, "3000 wanted, 2540 tuples"},
		{"few tuples that await answers", func(s *Spec) {
			*s = syn
			s.Reply, s.SourcePorts, s.Count = true, "1-10", 2541
		}, "name more sources or ports"},
		{"lifetime of http", func(s *Spec) { s.Kind, s.Lifetime = HTTP, lifetimes.Of(1) },
			"a lifetime needs a kind of tcp, hold, udp, handshake, not http"},
		{"lifetime below 0", func(s *Spec) { s.Lifetime = lifetimes.Of(-1) }, "mean of a lifetime"},
		{"lifetime of silent flows", func(s *Spec) { s.Kind, s.Lifetime = UDP, lifetimes.Of(1) },
			"needs an interval"},
		{"lifetime and exchanges", func(s *Spec) {
			s.Kind, s.Lifetime, s.Interval, s.Exchanges = UDP, lifetimes.Of(1), 1, 2
		}, "exclude each other"},
		{"lifetime of crafted flows", func(s *Spec) {
			*s = udp
			s.Lifetime, s.Interval = lifetimes.Of(1), 1
		}, "leave out interval, lifetime, or crafted"},
		{"interval alone", func(s *Spec) { s.Kind, s.Interval = UDP, 1 }, "needs exchanges or"},
		{"payload of hold alone", func(s *Spec) {
			s.Kind, s.Payload, s.Duration = Hold, 1, time.Second
		}, "payload and interval of hold go together"},
		{"random closed loop", func(s *Spec) { s.Arrivals = Poisson }, "arrivals need a rate"},
		{"unknown arrivals", func(s *Spec) { s.Rate, s.Arrivals = 1, "even-ish" },
			"even or poisson"},
		{"random bursts", func(s *Spec) {
			s.Profile = &Profile{Bursts: &pacing.Bursts{Size: 1, Every: 1}}
			s.Arrivals = Poisson
		}, "arrivals cannot be random"},
		{"weights", func(s *Spec) { s.Zipf = 11 }, "zipf must be 0 to 10"},
		{"weights without ports", func(s *Spec) { s.Kind, s.Zipf = UDP, 1 }, "source ports"},
		{"more at once than tuples",
			func(s *Spec) { s.SourcePorts, s.Concurrency = "1024-2023", 1001 },
			"1001 at once are more than the tuples: 1000 tuples"},
		{"more at once than ports", func(s *Spec) { s.Concurrency = 64513 },
			"the kernel chooses from 64512 ports"},
		{"more at once than descriptors", func(s *Spec) {
			s.Concurrency, s.Ports = 1<<20, []uint16{
				1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
			}
		}, "fs.nr_open"},
		{"more held than descriptors",
			func(s *Spec) { s.Kind, s.Count, s.Rate, s.Duration = Hold, 1<<20, 1e3, time.Minute },
			"fs.nr_open"},
		{"crafted without sources", func(s *Spec) { s.Kind, s.Crafted = UDP, true }, "no sources"},
		{"crafted and answered", func(s *Spec) { *s = udp; s.Reply, s.Exchanges = true, 2 },
			"leave out reply, exchanges, or crafted"},
		{"crafted in a closed loop", func(s *Spec) { *s = udp; s.Concurrency = 5 },
			"leave out concurrency, or crafted"},
		{"crafted with sockets", func(s *Spec) { *s = udp; s.AtOnce, s.FreeBind = 2, true },
			"leave out at once, free bind, or crafted"},
		{"crafted at intervals", func(s *Spec) { *s = udp; s.Interval = time.Second },
			"leave out interval, or crafted"},
		{"crafted http", func(s *Spec) { s.Crafted = true }, "crafted needs the kind udp"},
		{"crafted syn", func(s *Spec) { *s = syn; s.Crafted = true }, "crafted needs the kind udp"},
		{"crafted to a public address", func(s *Spec) { *s = udp; s.Target = "1.1.1.1" },
			"is a public address"},
		{"crafted with too few tuples",
			func(s *Spec) { *s = udp; s.SourcePorts, s.Count = "1-10", 2541 },
			"2541 wanted, 2540 tuples"},
		{"crafted and too large", func(s *Spec) { *s = udp; s.Payload = 1473 },
			"1 more than fit into a frame"},
		{"crafted and too large for IPv6", func(s *Spec) {
			*s = udp
			s.Target, s.Sources, s.Payload = "fd00::1", "fd01::/96", 1453
		}, "1 more than fit into a frame"},
		{"from public addresses", func(s *Spec) { *s = syn; s.Sources = "8.8.8.0/24" },
			"source 8.8.8.1 is a public address"},
		{"an interface for sockets", func(s *Spec) { s.Interface = "lo" }, "need crafted packets"},
		{"a gateway for datagram sockets",
			func(s *Spec) { *s = udp; s.Crafted, s.Gateway = false, "02:00:00:00:00:01" },
			"need crafted packets"},
		{"reuse of awaited", func(s *Spec) { *s = syn; s.Reuse, s.Reply = true, true },
			"cannot be used again"},
		{"awaited too long", func(s *Spec) { *s = syn; s.Timeout, s.Reply = time.Hour, true },
			"timeout must be at most 15m0s, not 1h0m0s"},
		{"awaited too many", func(s *Spec) { *s = syn; s.Count, s.Reply = 1<<29, true },
			"await answers"},
		{"too many tuples", func(s *Spec) { s.Sources, s.Target = "fd00::/66", "fd01::/66" },
			"2^62"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := good
			test.change(&spec)
			err := spec.Validate()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if _, runErr := Run(t.Context(), spec, nil); runErr == nil {
				t.Error("it ran")
			}
		})
	}
	few := with(syn, func(s *Spec) { s.SourcePorts, s.Count = "1", 1000 })
	if err := few.Validate(); !errors.Is(err, tuples.ErrExhausted) {
		t.Errorf("exhaustion is not named: %v", err)
	}
	few.Reuse = true
	if err := few.Validate(); err != nil {
		t.Errorf("reuse: %v", err)
	}
	public := with(good, func(s *Spec) { s.Target, s.AllowPublic = "1.1.1.1", true })
	if err := public.Validate(); err != nil {
		t.Errorf("allowed explicitly: %v", err)
	}
}

func TestSpecJSON(t *testing.T) {
	spec := Spec{
		Kind: TCP, Target: "10.0.0.1", Ports: []uint16{80, 81}, Count: 5, Concurrency: 2,
		Timeout: time.Second, Seed: 1 << 63,
		Profile: &Profile{
			Stages: pacing.Stages{{From: 1, To: 2, Duration: time.Second}},
		}, CPUs: []int{0, 1}, Close: CloseHalf, CloseBy: Server,
		Crafted: true,
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var back Spec
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec, back); diff != "" {
		t.Error(diff)
	}
}

// TestNoCraftedPacketsFromTheInitialNamespace checks that crafted packets never leave the initial
// network namespace. In a container the tests cannot enter that namespace, and then MayCraft must
// not report it.
func TestNoCraftedPacketsFromTheInitialNamespace(t *testing.T) {
	err := sockets.MayCraft(false)
	initial := errors.Is(err, sockets.ErrInitialNamespace)
	if err != nil && !initial {
		t.Fatal(err)
	}
	// Another file that exists only there.
	_, buckets := os.Stat("/proc/sys/net/core/netdev_max_backlog")
	if initial != (buckets == nil) {
		t.Fatalf("initial is %t", initial)
	}
	if !initial {
		hosttest.Skip(t, "not in the initial network namespace")
	}
	for _, kind := range []Kind{SYN, Handshake, ICMP, UDP} {
		spec := Spec{
			Kind: kind, Target: "127.0.0.1", Sources: "10.66.0.1", Count: 1, Crafted: kind == UDP,
		}
		if kind != ICMP {
			spec.Ports = []uint16{1}
		}
		_, err := Run(context.Background(), spec, nil)
		if !errors.Is(err, sockets.ErrInitialNamespace) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	r, err := responders.Listen(t.Context(), responders.Spec{
		Kind: responders.Handshake, Address: "10.66.0.1", Ports: []uint16{1},
	})
	if !errors.Is(err, sockets.ErrInitialNamespace) {
		t.Errorf("responder %v: %v", r, err)
	}
}

func TestOtherNamespacesAreNotInitial(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	if err := sockets.MayCraft(false); err != nil {
		t.Error(err)
	}
}

// TestCraftedBesideUplink gives the test's namespace a default route, as a container has.
func TestCraftedBesideUplink(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	run := func(allow bool) error {
		_, err := Run(t.Context(), Spec{Kind: ICMP, Target: "10.66.0.2", Sources: "10.67.0.0/24",
			Count: 1, Interface: "up", Gateway: "02:00:00:00:00:01", AllowPublic: allow}, nil)
		return err
	}
	uplink := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up"}, PeerName: "far"}
	address, err := netlink.ParseAddr("10.66.0.1/24")
	if err == nil {
		err = errors.Join(netlink.LinkAdd(uplink), netlink.LinkSetUp(uplink),
			netlink.AddrAdd(uplink, address))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := run(false); errors.Is(err, sockets.ErrUplink) {
		t.Errorf("without a default route: %v", err)
	}
	route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP("10.66.0.2")}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	if err := run(false); !errors.Is(err, sockets.ErrUplink) {
		t.Errorf("beside a default route: %v", err)
	}
	if err := run(true); errors.Is(err, sockets.ErrUplink) {
		t.Errorf("allowed: %v", err)
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Spec{
		"http://127.0.0.1:8080/a?b=c": {
			Kind: HTTP, Target: "127.0.0.1", Ports: []uint16{8080}, Path: "/a?b=c",
			Host: "127.0.0.1:8080",
		},
		"http://[fd00::1]": {
			Kind: HTTP, Target: "fd00::1", Ports: []uint16{80}, Path: "/", Host: "[fd00::1]",
		},
	} {
		got, err := ParseURL(t.Context(), text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, bad := range []string{
		"", "127.0.0.1", "https://127.0.0.1/", "http://", "http://127.0.0.1:0/",
		"http://127.0.0.1:99999/", "http://u:p@127.0.0.1/", ":",
	} {
		if got, err := ParseURL(t.Context(), bad); err == nil {
			t.Errorf("%q read as %+v", bad, got)
		}
	}
}
