package goals

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// resolved returns the topology and the scenario of an experiment with some workload.
func resolved(t *testing.T, workload string) (scenarios.Topology, scenarios.Resolved) {
	t.Helper()
	text := "experiment: x\ndut: {rules: \"*filter\\n-A INPUT -m state --state NEW -j ACCEPT\\n" +
		"COMMIT\", buckets: 512, sysctl: {net.netfilter.nf_conntrack_max: 3000, " +
		"net.netfilter.nf_conntrack_udp_timeout: 3}}\nworkload: [" + workload + "]\n"
	e, _, err := scenarios.Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e.Topology, e.Resolve()[0]
}

const (
	held  = "{name: users, generator: hold, connections: 500, rate: 100/s, duration: 1s}"
	flood = "{name: flood, generator: udp, flows: 3600, rate: 400/s, silent: true}"
)

func parsed(t *testing.T, e Extreme, text string, s scenarios.Resolved) Goal {
	t.Helper()
	g, err := Parse(e, text)
	if err == nil {
		g, err = g.Settle(scenarios.Topology{}, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestAt checks what each goal changes, and that the scenario it began with stays as it was.
func TestAt(t *testing.T) {
	_, s := resolved(t, held+", "+flood)
	for _, tc := range []struct {
		Extreme
		goal, name string
		value      float64
		holds      func(scenarios.Resolved) bool
	}{
		{Highest, "rate:users", "baseline@users.rate=150", 150, func(r scenarios.Resolved) bool {
			e := r.Workload[0] // the ramp takes 5 s at any rate
			return e.Rate == 150 && e.Connections == 750 && e.Duration == 1e9
		}},
		{Highest, "rate:flood", "baseline@flood.rate=0.5", .5, func(r scenarios.Resolved) bool {
			e := r.Workload[1]
			return e.Rate == .5 && e.Flows == 0 && e.Duration == 9e9
		}},
		{Smallest, "max", "baseline@max=500", 500, func(r scenarios.Resolved) bool {
			value, _ := r.DUT.Sysctl.Get(kernels.KeyMax)
			return value == "500"
		}},
		{Smallest, "buckets", "baseline@buckets=1024", 1024, func(r scenarios.Resolved) bool {
			return r.DUT.Buckets == 1024
		}},
		{Smallest, "memory", "baseline@memory=96", 96, func(r scenarios.Resolved) bool {
			return r.DUT.Memory == 96<<20
		}},
		{Longest, "timeout:udp", "baseline@udp.timeout=20", 20, func(r scenarios.Resolved) bool {
			value, _ := r.DUT.Sysctl.Get(kernels.Prefix + "udp_timeout")
			return value == "20"
		}},
	} {
		r := parsed(t, tc.Extreme, tc.goal, s).At(s, tc.value)
		if r.Name != tc.name || !tc.holds(r) {
			t.Errorf("%s: %+v", tc.goal, r)
		}
		if s.Name != "baseline" || s.Workload[0].Rate != 100 || s.Workload[1].Flows != 3600 ||
			s.DUT.Memory == r.DUT.Memory && tc.goal == "memory" || s.DUT.Buckets != 512 {
			t.Fatalf("%s changed the scenario that it began with: %+v", tc.goal, s)
		}
	}
}

// TestSettings holds the predicted limit to the kernel's arithmetic: 3000 entries over the ramp of
// 5 s, and over a timeout of 3 s, where half the buckets hold an entry that has expired.
func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		Extreme
		goal, workload string
		start, want    float64
	}{
		{Highest, "rate", held, 100, 600},
		{Highest, "rate", flood, 400, (3000 - 256) / 3.},
		{Smallest, "max", held, 3000, 500},
		{Longest, "timeout:udp", flood, 3, (3000 - 256) / 400.},
		{Smallest, "buckets", flood, 512, 0},
		{Longest, "timeout:time_wait", flood, 120, 0},
	} {
		topology, s := resolved(t, tc.workload)
		g := parsed(t, tc.Extreme, tc.goal, s)
		set := g.Settings(topology, s)
		slack := .01
		if tc.Extreme == Longest {
			slack = .2 // whole seconds
		}
		if set.Start != tc.start || set.Smallest != (tc.Extreme == Smallest) ||
			math.Abs(set.Predicted-tc.want) > slack*tc.want {
			t.Errorf("%s of %s: %+v, want %v from %v", g, tc.workload, set, tc.want, tc.start)
		}
	}
}

// TestEstimate reads the limit from what a table held.
func TestEstimate(t *testing.T) {
	_, s := resolved(t, flood)
	of := func(peak int64) *results.Trial {
		trial := new(results.Trial)
		trial.Conntrack = results.Conntrack{Tracked: true, Baseline: 10, Peak: peak, Max: 1010}
		return trial
	}
	for _, tc := range []struct {
		Extreme
		goal string
		peak int64
		want float64
	}{
		{Highest, "rate", 510, 200}, {Highest, "rate", 60, 0}, {Highest, "rate", 10, 0},
		{Longest, "timeout:udp", 510, 200}, {Smallest, "max", 510, 510},
		{Smallest, "buckets", 510, 0},
	} {
		if got := parsed(t, tc.Extreme, tc.goal, s).Estimate(100, of(tc.peak)); got != tc.want {
			t.Errorf("%s, a peak of %d: %v, want %v", tc.goal, tc.peak, got, tc.want)
		}
	}
}

// TestShort tells a load that ends before its first entries expire.
func TestShort(t *testing.T) {
	for workload, want := range map[string]bool{held: true, flood: false} {
		topology, s := resolved(t, workload)
		if life, short := parsed(t, Highest, "rate", s).Short(topology, s, 50); short != want {
			t.Errorf("%s: entries live for %v s, short %v", workload, life, short)
		}
	}
}

func TestParseAxis(t *testing.T) {
	_, s := resolved(t, flood)
	for text, want := range map[string][]string{
		"max=4k,16k":          {"baseline@max=4000", "baseline@max=16000"},
		"memory=96MiB,1GiB":   {"baseline@memory=96", "baseline@memory=1024"},
		"timeout:udp=10s, 1m": {"baseline@udp.timeout=10", "baseline@udp.timeout=60"},
		"cores=1,2":           {"baseline@cores=1", "baseline@cores=2"},
	} {
		a, err := ParseAxis(text)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := a.Over(s)
		var names []string
		for _, r := range list {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", text, names, want)
		}
	}
	for text, want := range map[string]string{
		"mac=5": `did you mean "max"`, "max": "has no values", "max=": "is not a count",
		"max=5,5": "is there twice", "max=0": "must be at least 1", "memory=5": "has no unit",
		"timeout=5s": "needs its state", "timeout:time-wait=5s": `did you mean "time_wait"`,
		"max:udp=5": "no name goes with max", "timeout:udp=200ms": "must be at least 1",
	} {
		if _, err := ParseAxis(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: whatever is accepted has values above 0, and is read back alike.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"rate", "rate:users", "max", "timeout:udp", "max=4k,16k",
		"timeout:udp=3s,1m", "memory=96MiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range []Extreme{Highest, Smallest, Longest} {
			g, err := Parse(e, text)
			if err == nil && g.String() != string(e)+" "+text {
				t.Errorf("%q is read as %q", text, g)
			}
		}
		a, err := ParseAxis(text)
		if err == nil && (len(a.values) == 0 || slices.Min(a.values) < 1) {
			t.Errorf("%q: %+v", text, a)
		}
	})
}
