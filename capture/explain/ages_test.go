package explain

import (
	"math"
	"testing"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// TestExplain_Ages tells a steady stream from one that rises, one that ends, and renewed entries.
func TestExplain_Ages(t *testing.T) {
	c := newTable(65536, 65536)
	c.holds(600, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
	c.holds(300, "tcp", "CLOSE", capture.Assured, 80, 10)
	for range 100 {
		c.add("tcp", "CLOSE", capture.Assured, 80, 9) // they came in the last second
		c.add("udp", "", capture.Replied, 53, 3)      // none came for 26 s
		c.add("tcp", "ESTABLISHED", capture.Assured, 22, 431_990)
	}
	x := Explain(c.whole(1200), Options{})
	got := map[string]Course{}
	for _, a := range x.Ages {
		got[a.Protocol+a.State] = a.Course
	}
	for what, want := range map[string]Course{
		"tcpTIME_WAIT": Steady, "tcpCLOSE": Rising, "udp": Falling, "tcpESTABLISHED": Renewed,
	} {
		if got[what] != want {
			t.Errorf("%s is %q, want %q", what, got[what], want)
		}
	}
}

// TestExplain_Lives: established / rate is the mean life, and what the second listing still has
// beyond that is held.
func TestExplain_Lives(t *testing.T) {
	h := newHost(5)
	h.connections(50, func() float64 { return h.r.ExpFloat64() * 8 }, "TIME_WAIT", 80, 120)
	h.held(300, 80)
	x := Explain(h.whole(int64(len(h.Table.Entries))), Options{})
	if len(x.Lives) != 1 {
		t.Fatalf("%+v", x.Lives)
	}
	l := x.Lives[0]
	within(t, "mean life", l.Mean, 8, 0.2)
	within(t, "held", l.Held, 300, 0.1)
	within(t, "share that stayed", *l.Stayed, 300.0/700, 0.1)
}

// TestExplain_Growth: the time to full comes of the straight line through the numbers; noise alone
// has none, and a table at its limit is cut.
func TestExplain_Growth(t *testing.T) {
	for name, tc := range map[string]struct {
		at     func(second int) int64
		full   float64 // 0: none
		code   Code
		cutoff int
	}{
		"grows": {func(s int) int64 { return 1000 + 21*int64(s) + int64(s%3) },
			6740.0 / 20.17, TableGrows, 0},
		"noise":   {func(s int) int64 { return 1000 + int64(s*7919%13) }, 0, "", 0},
		"expired": {func(s int) int64 { return 1000 + int64(s)*5/6 }, 0, "", 0},
		"falls":   {func(s int) int64 { return 4000 - 20*int64(s) }, 0, "", 0},
		"cut":     {func(s int) int64 { return min(9000, 8000+50*int64(s)) }, 0, TableIsCut, 41},
	} {
		c := newTable(9000, 9000)
		c.holds(100, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
		for s := range 61 {
			c.Counts = append(c.Counts, capture.Count{Seconds: float64(s), Entries: tc.at(s)})
		}
		x := Explain(c.whole(tc.at(60)), Options{})
		g := x.Growth
		if (g.FullIn != nil) != (tc.full > 0) || g.AtMax != tc.cutoff ||
			tc.full > 0 && math.Abs(*g.FullIn-tc.full) > 1 || tc.code != "" && !x.has(tc.code) {
			t.Errorf("%s: %+v, %+v", name, g, x.Findings)
		}
	}
}

// TestExplain_Together: the page shows several settings one by one and together.
func TestExplain_Together(t *testing.T) {
	c := newTable(4096, 4096)
	c.holds(1200, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
	c.holds(300, "udp", "", capture.Replied, 53, 30)
	x := Explain(c.whole(1500), Options{Only: true, Set: []kernels.Setting{
		{Key: timeWait, Value: "60"}, {Key: kernels.Prefix + "udp_timeout", Value: "10"},
		{Key: kernels.KeyMax, Value: "1000"},
	}})
	last := x.Changes[len(x.Changes)-1]
	if len(x.Changes) != 4 || last.Kind != ChangeTogether ||
		math.Abs(float64(*last.Leaves)-700) > 20 || math.Abs(*last.Fill-0.7) > 0.02 {
		t.Errorf("%+v", x.Changes)
	}
}
