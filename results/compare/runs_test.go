package compare

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

func TestCompareRefusesUnlike(t *testing.T) {
	names := []string{"last", "this"}
	for _, test := range []struct {
		name   string
		change func(*results.Run)
		words  []string
	}{
		{
			"experiment", func(r *results.Run) { r.Experiment = "y" },
			[]string{"experiment: x in last, y in this"},
		},
		{
			"accelerator", func(r *results.Run) { r.Environment.Accelerator = "tcg" },
			[]string{"accelerator: kvm in last, tcg in this"},
		},
		{
			"two things",
			func(r *results.Run) { r.Environment.Driver = "netns"; r.Environment.HostCPUs = 2 },
			[]string{"driver: libvirt", "host CPUs: 0 in last, 2 in this"},
		},
		{
			"workload", func(r *results.Run) { r.Workload = results.Asked{{"generator": "http"}} },
			[]string{"workload: 0 entries in last, 1 entry in this"},
		},
		{
			"actions alone",
			func(r *results.Run) {
				r.Scenarios[0].Actions = results.Asked{{"action": "flush", "at": "5s"}}
			},
			[]string{"actions of a: 0 entries in last, 1 entry in this"},
		},
		{
			"guest", func(r *results.Run) { r.Scenarios[1].Configuration.VCPUs = 4 },
			[]string{"vcpus of b: 0 in last, 4 in this"},
		},
		{"generator", func(r *results.Run) {
			for i := range r.Scenarios[0].Trials {
				r.Scenarios[0].Trials[i].Load.Generator = "tcp"
			}
		}, []string{"load of a: http requests in last, tcp requests"}},
		{
			"no common scenario",
			func(r *results.Run) { r.Scenarios[0].Name = "c"; r.Scenarios[1].Name = "d" },
			[]string{"no scenario in common"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := random(rand.New(rand.NewPCG(1, 1)), 2, 1)
			b := random(rand.New(rand.NewPCG(1, 1)), 2, 1)
			test.change(b)
			_, err := Runs(names, []*results.Run{a, b})
			if _, ok := errors.AsType[*UnlikeError](err); !ok {
				t.Fatalf("got %v", err)
			}
			for _, w := range test.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestCompareAcrossLabs(t *testing.T) {
	a, b := random(rand.New(rand.NewPCG(1, 1)), 2, 1), random(rand.New(rand.NewPCG(1, 1)), 2, 1)
	b.Environment.Driver, b.Environment.Accelerator = "netns", ""
	b.Scenarios[0].Configuration.VCPUs = 2
	names := []string{"machines", "namespaces"}
	_, err := Runs(names, []*results.Run{a, b})
	if err == nil || !strings.Contains(err.Error(), "--across-labs") {
		t.Errorf("without being asked: %v", err)
	}
	c, err := AcrossLabs(names, []*results.Run{a, b})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(c.Notes, "\n")
	for _, w := range []string{
		"driver: libvirt in machines, netns in namespaces",
		"accelerator: kvm in machines, none in namespaces",
		"vcpus of a: 0 in machines, 2 in namespaces", "across labs",
	} {
		if !strings.Contains(notes, w) {
			t.Errorf("%q is not in:\n%s", w, notes)
		}
	}
	b.Experiment = "another"
	if _, err := Runs(names, []*results.Run{a, b}); err == nil ||
		strings.Contains(err.Error(), "--across-labs") {
		t.Errorf("another experiment: %v", err)
	}
	if _, err := AcrossLabs(names, []*results.Run{a, b}); err == nil {
		t.Error("another experiment was compared")
	}
}

func TestCompareNotes(t *testing.T) {
	a, b := random(rand.New(rand.NewPCG(1, 1)), 3, 1), random(rand.New(rand.NewPCG(1, 2)), 3, 1)
	b.Environment.Kernel = "6.12"
	b.Scenarios[0].Configuration.Sysctl = map[string]string{
		"net.netfilter.nf_conntrack_max": "2048",
	}
	b.Scenarios[1].Name = "other"
	c, err := Runs([]string{"last", "this"}, []*results.Run{a, b})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(c.Notes, "\n")
	for _, w := range []string{
		"kernel differs: none in last, 6.12 in this",
		"sysctls of a differ: none in last, net.netfilter.nf_conntrack_max=2048",
		"scenario b is not in this", "too few trials",
	} {
		if !strings.Contains(notes, w) {
			t.Errorf("%q is not in:\n%s", w, notes)
		}
	}
	if len(c.Groups) != 1 || len(significant(c)) > 0 {
		t.Errorf("%+v", c.Groups)
	}
	for _, row := range c.Groups[0].Rows {
		want := "~"
		switch row.Metric.Name {
		case "conntrack.peak", "conntrack.early_drop", "conntrack.insert_failed",
			"conntrack.seconds_to_recover":
			want = "="
		}
		if got, _, _ := strings.Cut(row.Delta(1), " "); got != want {
			t.Errorf("%s: %q, want %q", row.Metric.Name, got, want)
		}
	}
}

func TestCompareScenarios(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	run := random(r, 12, 1)
	for i := range run.Scenarios[1].Trials {
		tr := &run.Scenarios[1].Trials[i]
		tr.Verdict, tr.Load.Failed, *tr.Load.Completed = results.Clean, 0, 5000
		tr.Conntrack.Drop, tr.Conntrack.SecondsToFull = 0, nil
	}
	c, err := Scenarios(run)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range c.Groups[0].Rows {
		got[row.Metric.Name] = row.Delta(1)
	}
	want := map[string]string{
		"load.completed": "1.23 x, 1.22 to 1.23", "load.failed": "-924, -935 to -911",
		"conntrack.drop": "-3756, -3819 to -3718", "load.rate_per_s": "~ 0.999 x, 0.991 to 1.005",
		"conntrack.seconds_to_full": "never", "conntrack.peak": "=",
	}
	for name, delta := range want {
		if got[name] != delta {
			t.Errorf("%s: %q, want %q", name, got[name], delta)
		}
	}
	if diff := cmp.Diff([]string{"table-full", "clean"}, c.Groups[0].Verdicts); diff != "" {
		t.Error(diff)
	}
}

func TestCompareNotesRules6(t *testing.T) {
	run := func(rules6 string) *results.Run {
		return &results.Run{Scenarios: []results.Scenario{{
			Name: "a", Configuration: results.Configuration{Rules6: rules6},
			Trials: []results.Trial{{Number: 1, Verdict: results.Clean}},
		}}}
	}
	c, err := Runs([]string{"last", "this"},
		[]*results.Run{run("*raw\nCOMMIT\n"), run("*nat\nCOMMIT\n")})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(c.Notes, "\n"); !strings.Contains(notes, "rules of a differ") {
		t.Errorf("notes: %s", notes)
	}
}

// TestCompareNotesCounters: runs whose kernels count other things are not compared silently.
func TestCompareNotesCounters(t *testing.T) {
	run := func(m *results.CounterMeaning) *results.Run {
		return &results.Run{Scenarios: []results.Scenario{{
			Name: "a", Trials: []results.Trial{{Number: 1, Verdict: results.Clash, Meaning: m}},
		}}}
	}
	old := &results.CounterMeaning{ClashInDrop: true, ChainInInsertFailed: true}
	for _, test := range []struct {
		a, b  *results.CounterMeaning
		noted bool
	}{
		{old, &results.CounterMeaning{}, true}, {old, old, false}, {old, nil, false},
	} {
		c, err := Runs([]string{"last", "this"}, []*results.Run{run(test.a), run(test.b)})
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(c.Notes, "\n")
		if strings.Contains(notes, "lost races in insert_failed and drop, long chains in") !=
			test.noted {
			t.Errorf("%v, %v: %q", test.a, test.b, notes)
		}
	}
}
