package explain

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ctload/ctload/capture"
)

// host simulates a host: connections come as a Poisson process, and a capture lists the entries
// that live at second 0, and in a second listing those that still live.
type host struct {
	*table
	r       *rand.Rand
	between float64
}

func newHost(seed uint64) *host {
	h := &host{newTable(1<<20, 1<<20), rand.New(rand.NewPCG(seed, 1)), 30}
	h.Table.Between = h.between
	return h
}

// connections adds the entries of connections that come rate times a second and live for a time
// that life draws. Each entry stays for a timeout after that.
func (h *host) connections(rate float64, life func() float64, state string, port uint16,
	timeout float64,
) {
	for at := -2000.0; at < 0; at += h.r.ExpFloat64() / rate {
		end := at + life()
		left := timeout + end
		n := len(h.Table.Entries)
		switch {
		case end >= 0:
			h.add("tcp", "ESTABLISHED", capture.Assured, port, 431_990)
			h.Table.Entries[n].Stays = end > h.between
			h.Table.Entries[n].Gone = end <= h.between
		case left > 0:
			h.add("tcp", state, capture.Assured, port, int64(left))
			h.Table.Entries[n].Stays = left > h.between
			h.Table.Entries[n].Gone = left <= h.between
		default:
			continue
		}
		source := netip.AddrFrom4([4]byte{198, 18, byte(h.r.IntN(8)), byte(h.r.IntN(200))})
		h.Table.Entries[n].Original.Source = source
		h.Table.Entries[n].Reply.Destination = source
	}
}

// held adds connections that stay.
func (h *host) held(n int, port uint16) {
	for range n {
		h.add("tcp", "ESTABLISHED", capture.Assured, port, 431_990)
		h.Table.Entries[len(h.Table.Entries)-1].Stays = true
	}
}

// stream returns a stream by its port and end.
func (t *Traffic) stream(port uint16, end End) (sum Stream) {
	for _, s := range t.Streams {
		if len(s.Ports) == 1 && s.Ports[0] == port && s.End == end {
			sum = s
		}
	}
	return sum
}

// within reports a figure that is further from the wanted one than chance allows.
func within(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*want {
		t.Errorf("%s: %g, want %g within %g %%", what, got, want, share*100)
	}
}

// TestFindTraffic_Lives finds rates and mean lives again, whatever the distribution, and tells
// connections that stay from those that pass.
func TestFindTraffic_Lives(t *testing.T) {
	h := newHost(3)
	h.connections(50, func() float64 { return h.r.ExpFloat64() * 8 }, "TIME_WAIT", 80, 120)
	h.held(300, 80)
	h.connections(20, func() float64 { return math.Exp(h.r.NormFloat64()*1.2 + 2 - 0.72) },
		"CLOSE", 443, 10)
	h.connections(10, func() float64 { return 0 }, "CLOSE_WAIT", 25, 60)
	h.held(200, 5432)
	x, err := FindTraffic(h.whole(int64(len(h.Table.Entries))))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		port       uint16
		end        End
		rate, life float64
	}{
		{80, EndClosed, 50, 8}, {443, EndReset, 20, math.Exp(2)}, {25, EndHalfClosed, 10, 0},
	} {
		s := x.stream(tc.port, tc.end)
		within(t, fmt.Sprint(tc.port, " a second"), s.Rate, tc.rate, 0.2)
		within(t, fmt.Sprint(tc.port, " life"), s.Life, tc.life, 0.35)
	}
	within(t, "held at 80", x.stream(80, EndHeld).Held, 300, 0.1)
	within(t, "held at 5432", x.stream(5432, EndHeld).Held, 200, 0)
	sum := 0.0
	for _, s := range x.Streams {
		sum += s.Entries
		if s.Way != In || s.Protocol != "tcp" {
			t.Errorf("%+v", s)
		}
	}
	within(t, "entries of all streams", sum, float64(len(h.Table.Entries)), 0.001)
}

// TestFindTraffic_Ways tells the host from those beyond it.
func TestFindTraffic_Ways(t *testing.T) {
	entry := func(source, target, answers, to string) capture.Entry {
		return capture.Entry{Protocol: "udp", Left: 20,
			Original: capture.Tuple{Source: netip.MustParseAddr(source),
				Destination: netip.MustParseAddr(target), DestinationPort: 53},
			Reply: capture.Tuple{Source: netip.MustParseAddr(answers),
				Destination: netip.MustParseAddr(to)},
		}
	}
	for name, tc := range map[string]struct {
		entry func(i int) capture.Entry
		ways  map[Way]bool
		nat   bool
	}{
		"server": {func(i int) capture.Entry {
			client := fmt.Sprint("198.18.0.", i)
			return entry(client, "192.0.2.1", "192.0.2.1", client)
		}, map[Way]bool{In: true}, false},
		"client": {func(i int) capture.Entry {
			server := fmt.Sprint("198.18.0.", i)
			return entry("192.0.2.1", server, server, "192.0.2.1")
		}, map[Way]bool{Out: true}, false},
		"router": {func(i int) capture.Entry {
			client, server := fmt.Sprint("10.0.0.", i), fmt.Sprint("198.18.0.", i)
			return entry(client, server, server, client)
		}, map[Way]bool{Through: true}, false},
		"masquerading router": {func(i int) capture.Entry {
			client, server := fmt.Sprint("10.0.0.", i), fmt.Sprint("198.18.0.", i)
			return entry(client, server, server, "192.0.2.1")
		}, map[Way]bool{Through: true}, true},
		"resolver": {func(i int) capture.Entry {
			if other := fmt.Sprint("198.18.0.", i); i%2 == 0 {
				return entry("192.0.2.1", other, other, "192.0.2.1")
			}
			other := fmt.Sprint("10.0.0.", i)
			return entry(other, "192.0.2.1", "192.0.2.1", other)
		}, map[Way]bool{In: true, Out: true}, false},
	} {
		h := newTable(1000, 1000)
		for i := range 100 {
			h.Table.Entries = append(h.Table.Entries, tc.entry(i+1))
		}
		x, err := FindTraffic(h.whole(100))
		if err != nil {
			t.Fatal(err)
		}
		ways := map[Way]bool{}
		for _, s := range x.Streams {
			ways[s.Way] = true
		}
		if fmt.Sprint(ways) != fmt.Sprint(tc.ways) || x.SourceNAT != tc.nat {
			t.Errorf("%s: %v, translated %v; the host is %v", name, ways, x.SourceNAT, x.Host)
		}
	}
}

// TestFindTraffic_UDP tells flows that have ended from conversations that go on.
func TestFindTraffic_UDP(t *testing.T) {
	h := newTable(4096, 4096)
	h.holds(300, "udp", "", capture.Replied, 53, 30)    // 10 a second
	h.holds(60, "udp", "", capture.Unreplied, 1900, 30) // 2 a second
	h.holds(600, "udp", "", capture.Assured, 443, 120)  // 5 a second have ended
	for range 50 {
		h.add("udp", "", capture.Assured, 443, 119) // and 10 s of each go on
		h.add("udp", "", capture.Assured, 51820, 118)
	}
	x, err := FindTraffic(h.whole(1060))
	if err != nil {
		t.Fatal(err)
	}
	within(t, "answered", x.stream(53, EndAnswered).Rate, 10, 0)
	within(t, "unanswered", x.stream(1900, EndUnanswered).Rate, 2, 0)
	within(t, "streams", x.stream(443, EndStream).Rate, 5, 0.02)
	within(t, "their life", x.stream(443, EndStream).Life, 12.5, 0.05)
	within(t, "tunnels", x.stream(51820, EndHeld).Held, 50, 0)
}

func TestFindTraffic_Selection(t *testing.T) {
	c := newTable(4096, 4096)
	c.holds(100, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
	c.whole(100)
	c.Table.Scope = capture.Selection
	if _, err := FindTraffic(&c.Capture); err == nil {
		t.Error("a selection has traffic")
	}
}
