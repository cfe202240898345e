package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/search"
)

// searched runs a search over an experiment and returns what it found of its scenarios.
func searched(t *testing.T, limit time.Duration, text string, args ...string) []search.Scenario {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "run")
	o := ctload(t, limit, slices.Concat([]string{"search", file, "--format", "json", "--out", out},
		args)...)
	t.Log(o.stderr)
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s", o.status, o.stdout)
	}
	var report search.Report
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil {
		t.Fatal(err)
	}
	return report.Search.Scenarios
}

// checkFound compares the found limit with the kernel's arithmetic, which gives one from least to
// most.
func checkFound(t *testing.T, s search.Scenario, least, most float64, limit search.Limit) {
	t.Helper()
	if s.Low == nil || s.High == nil || *s.Low > most || *s.High < least || s.Limit != limit {
		t.Errorf("%s, want %v to %v by %s: %+v", s.Words(.95), least, most, limit, s)
	}
	if s.Trials > 12 || s.Trials != len(s.Made)-s.Invalid {
		t.Errorf("%d trials, %d of them INVALID, of %d", s.Trials, s.Invalid, len(s.Made))
	}
}

// TestSearch_PortsOfNAT: 400 source ports towards one destination carry up to 200 flows a second,
// since a load of 2 s takes one port for each flow. The kernel looks at 128 of them from a random
// one on, then at 64, 32 and 16 (nf_nat_l4proto_unique_tuple), and so gives up before the last one:
// in 95 of 100 loads of 20,000 simulated ones at the 369th port or later.
func TestSearch_PortsOfNAT(t *testing.T) {
	labtest.Need(t)
	const ports = `experiment: ports
topology: router
dut:
  rules: |
    *nat
    -A POSTROUTING -o ${server.interface} -p udp ` +
		"-j SNAT --to-source ${dut.server.address}:40000-40399\n" + `    COMMIT
workload:
- {name: flows, generator: udp, rate: 100/s, duration: 2s, silent: true}
recovery: 0s
`
	lines := filepath.Join(t.TempDir(), "events.jsonl")
	found := searched(t, 5*time.Minute, ports, "--highest", "rate", "--driver", "netns",
		"--max-trials", "9", "--resolution", "5%", "--events", lines, "--live")
	checkFound(t, found[0], 184, 201, search.Ports)
	checkSearchEvents(t, lines, found[0])
}

// checkSearchEvents checks that the events of a search tell of each trial, and after it what is
// known of the limit: in the end what the search found.
func checkSearchEvents(t *testing.T, path string, found search.Scenario) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all gathered
	if err := events.Read(file, &all); err != nil {
		t.Fatal(err)
	}
	var last search.Scenario
	seen := map[events.Kind]int{}
	for _, e := range all {
		seen[e.Kind]++
		if e.Kind == events.LimitMoved {
			last = *e.Limit
		}
	}
	for _, kind := range []events.Kind{events.TrialBegin, events.TrialEnd, events.LimitMoved} {
		if seen[kind] != len(found.Made) {
			t.Errorf("%d events %s of %d trials", seen[kind], kind, len(found.Made))
		}
	}
	end := all[len(all)-1]
	if end.Kind != events.RunEnd || end.End.Status != statusOK || end.End.Folder == "" {
		t.Errorf("the last event is %+v", end)
	}
	if diff := cmp.Diff(found, last); diff != "" {
		t.Errorf("the last known limit is not the one found:\n%s", diff)
	}
}

// gathered keeps the events that it takes.
type gathered []events.Event

func (g *gathered) Take(e events.Event) { *g = append(*g, e) }

// TestSearch_Table: connections that stay fill a table of 1000 at 200 a second in 5 s, and the
// smallest table for 500 of them has room for those; see the kernel's count for entries beside
// them.
func TestSearch_Table(t *testing.T) {
	needsTime(t)
	const held = `experiment: held
dut:
  sysctl: {net.netfilter.nf_conntrack_max: 1000}
  rules: "*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT"
workload:
- {name: users, generator: hold, connections: 500, rate: 100/s, duration: 1s}
recovery: 1s
`
	highest := searched(t, 15*time.Minute, held, "--highest", "rate")
	checkFound(t, highest[0], 200, 200, search.Table)
	smallest := searched(t, 15*time.Minute, held, "--smallest", "max")
	checkFound(t, smallest[0], 500, 500, search.Table)
	for _, s := range []search.Scenario{highest[0], smallest[0]} {
		if width := (*s.High - *s.Low) / *s.Value; width > .02 {
			t.Errorf("%s: %.1f %% wide, want 2 %% at most", s.Words(.95), 100*width)
		}
	}
}

// TestSearch_RFC9693: the capacity of a table of 1000 is 1000 connections; 750 of them, opened in
// no less than a second, set no limit to the establishment rate but that; and removing them takes a
// time.
func TestSearch_RFC9693(t *testing.T) {
	needsTime(t)
	const gateway = `experiment: gateway
topology: router
dut: {nat: masquerade, sysctl: {net.netfilter.nf_conntrack_max: 1000}}
workload:
- {generator: udp, ports: 8000-8003, rate: 100/s, duration: 1s}
`
	found := searched(t, 25*time.Minute, gateway, "--method", "rfc9693")
	if len(found) != 3 {
		t.Fatalf("%d metrics", len(found))
	}
	establishment, capacity, tearDown := found[0], found[1], found[2]
	if establishment.Low == nil || *establishment.Low < 225 || *establishment.Low > 750 {
		t.Errorf("%s", establishment.Words(.95))
	}
	checkFound(t, capacity, 1000, 1000, search.Table)
	if tearDown.Value == nil || *tearDown.Value < 750 || tearDown.Trials != 6 {
		t.Errorf("%s, of %d trials", tearDown.Words(.95), tearDown.Trials)
	}
}

// TestSearch_ExitStatus: a limit below the one that was asked for, or below that of an earlier
// search, ends with exit status 1.
func TestSearch_ExitStatus(t *testing.T) {
	low, high := 190.0, 210.0
	found := search.Found{Confidence: .95, Scenarios: []search.Scenario{
		{Name: "baseline", Value: &high, Low: &low, High: &high, Unit: "/s"},
	}}
	concluded := func(before *search.Found) int {
		return exitStatus(t.Context(), judgeSearch(found, before))
	}
	for least, want := range map[float64]int{0: statusOK, 190: statusOK, 191: statusFailed} {
		found.AtLeast = least
		if got := concluded(nil); got != want {
			t.Errorf("at least %v: exit status %d, want %d", least, got, want)
		}
	}
	found.AtLeast = 0
	for least, want := range map[float64]int{205: statusOK, 211: statusFailed} {
		most := least + 20
		before := search.Found{Scenarios: []search.Scenario{
			{Name: "baseline", Value: &most, Low: &least, High: &most, Unit: "/s"},
		}}
		if got := concluded(&before); got != want {
			t.Errorf("after a search with %v at least: exit status %d, want %d", least, got, want)
		}
	}
	found.Scenarios[0].Stuck = true
	if got := concluded(nil); got != statusInvalid {
		t.Errorf("trials that stay INVALID: exit status %d", got)
	}
}
