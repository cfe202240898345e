package explain

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// table makes a capture of entries.
type table struct{ capture.Capture }

func newTable(max, buckets int64) *table {
	t := &table{capture.Capture{Settings: map[string]string{}}}
	t.Sizes.Max, t.Sizes.Buckets = &max, &buckets
	return t
}

// holds adds n entries whose seconds left are spread evenly over 0 to below the timeout.
func (t *table) holds(n int, protocol, state string, kind capture.Kind, port uint16, timeout int) {
	for i := range n {
		t.add(protocol, state, kind, port, int64(i*timeout/n))
	}
}

func (t *table) add(protocol, state string, kind capture.Kind, port uint16, left int64) {
	n := len(t.Table.Entries)
	client := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
	server := netip.MustParseAddr("192.0.2.1")
	t.Table.Entries = append(t.Table.Entries, capture.Entry{
		Protocol: protocol, State: state, Left: left,
		Unreplied: kind == capture.Unreplied, Assured: kind == capture.Assured,
		Original: capture.Tuple{Source: client, Destination: server, SourcePort: 1024,
			DestinationPort: port},
		Reply: capture.Tuple{Source: server, Destination: client, SourcePort: port,
			DestinationPort: 1024},
	})
}

// whole ends the table: its listing is complete, and count entries are counted.
func (t *table) whole(count int64) *capture.Capture {
	t.Table.Scope, t.Table.Whole = capture.Whole, int64(len(t.Table.Entries))
	t.Sizes.Count = &count
	return &t.Capture
}

// change returns what a change leaves; -1: it is not told.
func (x *Explanation) change(kind ChangeKind, what, value string) int64 {
	for _, c := range x.Changes {
		if c.Kind == kind && c.What == what && c.Value == value && c.Leaves != nil {
			return *c.Leaves
		}
	}
	return -1
}

func (x *Explanation) has(code Code) bool {
	return slices.ContainsFunc(x.Findings, func(f Finding) bool { return f.Code == code })
}

// rate returns the rate of what entries count; 0: it is not told.
func (x *Explanation) rate(what string) float64 {
	for _, r := range x.Rates {
		if r.What == what {
			return r.PerSecond
		}
	}
	return 0
}

const timeWait = kernels.Prefix + "tcp_timeout_time_wait"

func TestExplain_TimeWait(t *testing.T) {
	c := newTable(4096, 512)
	c.holds(3600, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
	c.holds(400, "udp", "", capture.Replied, 53, 30)
	c.holds(96, "tcp", "ESTABLISHED", capture.Assured, 22, 432000)
	x := Explain(c.whole(4096), Options{Set: []kernels.Setting{{Key: timeWait, Value: "60"}}})
	if got := x.rate("closed connections"); got != 30 {
		t.Errorf("%g closes a second, want 30", got)
	}
	if got := x.change(ChangeTimeout, timeWait, "60"); got != 2296 {
		t.Errorf("time_wait 60 leaves %d, want 2296", got)
	}
	if got := x.change(ChangeNotrack, "tcp 80", ""); got != 496 {
		t.Errorf("NOTRACK leaves %d, want 496", got)
	}
	if got := x.change(ChangeTimeout, kernels.Prefix+"udp_timeout", "10"); got != 3829 {
		t.Errorf("udp_timeout 10 leaves %d, want 3829: 133 of 400 have 20 s left", got)
	}
	for _, code := range []Code{TableRefuses, TimeWaitChurn, HashIsSmall, RatesAreLowBounds} {
		if !x.has(code) {
			t.Errorf("%s is not found in %+v", code, x.Findings)
		}
	}
	if x.has(NotTheTable) || *x.Size.Chain != 16 {
		t.Errorf("%+v, chain %g", x.Findings, *x.Size.Chain)
	}
}

// TestExplain_Prefix explains the first tenth of a walk: the whole table's figures are those of the
// listing times ten.
func TestExplain_Prefix(t *testing.T) {
	c := newTable(65536, 65536)
	c.holds(1000, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
	c.whole(10_000)
	c.Table.Scope, c.Table.Whole = capture.Prefix, 10_000
	x := Explain(&c.Capture, Options{})
	if got := x.rate("closed connections"); math.Abs(got-10_000.0/120) > 0.01 {
		t.Errorf("%g closes a second", got)
	}
	if got := x.change(ChangeTimeout, timeWait, "30"); got < 2490 || got > 2510 {
		t.Errorf("time_wait 30 leaves %d", got)
	}
	if !x.has(NotTheTable) {
		t.Errorf("%+v", x.Findings)
	}
}

// TestExplain_Selection scales nothing of a selection, and computes from the states that were
// counted on the host.
func TestExplain_Selection(t *testing.T) {
	c := newTable(131072, 65536)
	c.holds(500, "tcp", "CLOSE_WAIT", capture.Assured, 443, 3600)
	c.Settings[kernels.Prefix+"tcp_timeout_close_wait"] = "3600"
	c.whole(100_000)
	c.Table.Scope, c.Table.Whole = capture.Selection, 98_000
	c.Table.States = map[string]int64{"CLOSE_WAIT": 90_000, "ESTABLISHED": 8000}
	x := Explain(&c.Capture, Options{})
	if got := x.rate("half-closed connections"); got != 25 {
		t.Errorf("%g half-closes a second, want 25", got)
	}
	got := x.change(ChangeTimeout, kernels.Prefix+"tcp_timeout_close_wait", "60")
	if want := int64(8000 + 1500); got != want {
		t.Errorf("close_wait 60 leaves %d, want %d", got, want)
	}
	if got := x.change(ChangeNotrack, "tcp 443", ""); got != -1 || !x.has(SelectionOfTable) {
		t.Errorf("NOTRACK leaves %d of a selection; %+v", got, x.Findings)
	}
	c.Table.States = nil
	c.Table.Whole = 0
	x = Explain(&c.Capture, Options{})
	got = x.change(ChangeTimeout, kernels.Prefix+"tcp_timeout_close_wait", "60")
	if len(x.Rates) > 0 || got != -1 {
		t.Errorf("a selection gives rates: %+v, %+v", x.Rates, x.Changes)
	}
}

// TestExplain_Evicting explains a table that evicts: entries go long before their time, so that
// entries / timeout is not the rate.
func TestExplain_Evicting(t *testing.T) {
	const perSecond, stay, others = 500, 8, 96
	c := newTable(4096, 4096)
	r := rand.New(rand.NewPCG(3, 4))
	for range perSecond * stay {
		age := min(r.ExpFloat64()*stay, 60) // eviction is blind to age
		c.add("tcp", "SYN_SENT", capture.Unreplied, 23, int64(120-age))
	}
	c.holds(others, "tcp", "ESTABLISHED", capture.Assured, 443, 432000)
	c.whole(4096)
	x := Explain(&c.Capture, Options{})
	if got := x.rate("attempts without an answer"); math.Abs(got/perSecond-1) > 0.05 {
		t.Errorf("%g attempts a second, want %d", got, perSecond)
	}
	c.Counters = []capture.Counters{
		{Sum: map[string]int64{"early_drop": 1000, "drop": 0}, CPUs: 1},
		{Sum: map[string]int64{"early_drop": 6000, "drop": 0}, CPUs: 1, Seconds: 10},
	}
	x = Explain(&c.Capture, Options{})
	synSent := kernels.Prefix + "tcp_timeout_syn_sent"
	for value, want := range map[string]int64{
		"5": 5*perSecond + others, "10": 10*perSecond + others,
	} {
		if got := x.change(ChangeTimeout, synSent, value); got != want {
			t.Errorf("syn_sent %s leaves %d, want %d", value, got, want)
		}
	}
	want := int64(120*perSecond + others)
	if got := x.change(ChangeMax, kernels.KeyMax, "131072"); got != want {
		t.Errorf("a larger table holds %d, want %d", got, want)
	}
	if !x.has(TableEvicts) || x.has(TableRefuses) || !x.has(Scan) {
		t.Errorf("%+v", x.Findings)
	}
}

// TestExplain_Leak finds the connections whose hosts vanished, and how many a day.
func TestExplain_Leak(t *testing.T) {
	c := newTable(1024, 1024)
	const days, perDay, alive = 4, 200, 50
	for i := range days * perDay {
		age := int64(float64(i+1) / perDay * 86400)
		c.add("tcp", "ESTABLISHED", capture.Assured, 5432, 432000-age)
	}
	for range alive {
		c.add("tcp", "ESTABLISHED", capture.Assured, 5432, 431990)
	}
	for range 7 { // data that was never acknowledged: not 431,800 s old
		c.add("tcp", "ESTABLISHED", capture.Assured, 6379, 200)
	}
	x := Explain(c.whole(900), Options{})
	if len(x.Idle) != 1 || x.Idle[0].PerDay == nil {
		t.Fatalf("%+v", x.Idle)
	}
	idle := x.Idle[0]
	if idle.Silent != days*perDay || idle.Alive != alive ||
		math.Abs(*idle.PerDay/perDay-1) > 0.01 || idle.Level != 5*perDay {
		t.Errorf("%+v, %g a day", idle, *idle.PerDay)
	}
	established := kernels.Prefix + "tcp_timeout_established"
	if got := x.change(ChangeTimeout, established, "86400"); got != perDay+alive+7 {
		t.Errorf("established 86400 leaves %d, want %d", got, perDay+alive+7)
	}
	if got := x.change(ChangeTimeout, established, "3600"); got != 8+alive+7 {
		t.Errorf("established 3600 leaves %d, want %d", got, 8+alive+7)
	}
	if !x.has(SilentConnected) || !x.has(TableNearFull) {
		t.Errorf("%+v", x.Findings)
	}
	// It would settle at 1057 entries: (1024 - 900) / 200 and (1024 - 857) / 200 days.
	const full = "full in 14.9 hours, or 20.0 hours without expired entries"
	if !slices.ContainsFunc(x.Findings, func(f Finding) bool {
		return f.Code == SilentConnected && strings.Contains(f.Sentence, full)
	}) {
		t.Errorf("no finding says %q: %+v", full, x.Findings)
	}
}

// TestExplain_AgesNotShown says of a timeout whose entries were only counted what it leaves at
// least.
func TestExplain_AgesNotShown(t *testing.T) {
	c := newTable(1000, 1000)
	c.holds(100, "tcp", "CLOSE_WAIT", capture.Assured, 443, 60)
	c.Table.Scope = capture.Selection
	c.Table.States = map[string]int64{"CLOSE_WAIT": 400, "ESTABLISHED": 300}
	c.Table.Whole = 700
	x := Explain(&c.Capture, Options{})
	established := kernels.Prefix + "tcp_timeout_established"
	i := slices.IndexFunc(x.Changes, func(change Change) bool { return change.What == established })
	if i < 0 || x.Changes[i].Leaves != nil || x.Changes[i].Listed != nil ||
		!strings.Contains(x.Changes[i].Note, "at most 300 fewer") {
		t.Errorf("%+v", x.Changes)
	}
}

// TestExplain_LongerThanItsTimeout keeps entries with a timeout of their own, as those of a helper.
func TestExplain_LongerThanItsTimeout(t *testing.T) {
	c := newTable(1000, 1000)
	c.holds(90, "udp", "", capture.Assured, 5060, 3600)
	c.holds(900, "udp", "", capture.Assured, 443, 120)
	for i := range 90 {
		c.Table.Entries[i].Left += 121
	}
	x := Explain(c.whole(990), Options{})
	if got := x.change(ChangeTimeout, kernels.Prefix+"udp_timeout_stream", "60"); got != 90+450 {
		t.Errorf("udp_timeout_stream 60 leaves %d, want 540", got)
	}
}

// TestExplain_OtherLimits names limits that look like a full table from outside.
func TestExplain_OtherLimits(t *testing.T) {
	base := func() *table {
		c := newTable(65536, 65536)
		c.holds(100, "udp", "", capture.Replied, 53, 30)
		c.whole(100)
		return c
	}
	for code, change := range map[Code]func(*table){
		ExpectationsFull: func(c *table) { c.Log.ExpectFull = 1 },
		NeighboursFull:   func(c *table) { c.Log.Neighbour = 3 },
		ReceiveBuffers:   func(c *table) { c.Network = map[string]int64{"UdpRcvbufErrors": 5} },
		ListenQueue: func(c *table) {
			c.Network = map[string]int64{"TcpExtListenOverflows": 5}
		},
		LostRaces: func(c *table) {
			c.Counters = []capture.Counters{{Sum: map[string]int64{"insert_failed": 9, "drop": 9}}}
		},
		LongChains: func(c *table) {
			c.Counters = []capture.Counters{{Sum: map[string]int64{"chaintoolong": 9}}}
		},
	} {
		c := base()
		change(c)
		x := Explain(&c.Capture, Options{})
		if !x.has(code) || x.has(TableRefuses) || !x.has(NotTheTable) {
			t.Errorf("%s: %+v", code, x.Findings)
		}
		if x = Explain(&base().Capture, Options{}); x.has(code) {
			t.Errorf("%s of nothing: %+v", code, x.Findings)
		}
	}
}

// TestExplain_Empty finds no fault with an empty table.
func TestExplain_Empty(t *testing.T) {
	x := Explain(newTable(4096, 4096).whole(0), Options{})
	if !x.has(NotTheTable) || x.Size.Fill == nil || *x.Size.Fill != 0 {
		t.Errorf("%+v, fill %v", x.Findings, x.Size.Fill)
	}
}

// TestExplain_Steady compares what changed timeouts are said to leave with a simulation of the same
// arrivals under those timeouts.
func TestExplain_Steady(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const perSecond, seconds = 40, 600
	living := func(timeout float64) (left []int64) {
		for at := 0.0; at < seconds; at += r.ExpFloat64() / perSecond {
			life := math.Exp(r.NormFloat64()) // lognormal: the active life before the last packet
			if end := at + life; end < seconds && end+timeout > seconds {
				left = append(left, int64(end+timeout-seconds))
			}
		}
		return left
	}
	c := newTable(100_000, 100_000)
	for _, left := range living(120) {
		c.add("tcp", "TIME_WAIT", capture.Assured, 80, left)
	}
	x := Explain(c.whole(int64(len(c.Table.Entries))), Options{})
	for _, timeout := range []int{30, 10} {
		want := float64(len(living(float64(timeout))))
		got := float64(x.change(ChangeTimeout, timeWait, fmt.Sprint(timeout)))
		if math.Abs(got-want) > 4*math.Sqrt(want+got) { // two counts of Poisson
			t.Errorf("time_wait %d is said to leave %g, and left %g", timeout, got, want)
		}
	}
}
