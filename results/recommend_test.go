package results

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
)

func TestRecommend(t *testing.T) {
	type conf = Configuration
	scenario := func(name string, v Verdict, size kernels.Size, c conf, o ...Outcome) Scenario {
		table := Conntrack{Max: size.Max, Buckets: size.Buckets}
		return Scenario{
			Name: name, Configuration: c, Thresholds: o,
			Trials: []Trial{{Verdict: v, Conntrack: table}},
		}
	}
	small := kernels.Size{Max: 4096, Buckets: 4096}
	baseline := scenario("baseline", TableFull, small, Configuration{})
	raised := scenario("raised-max", Clean, kernels.Size{Max: 262144, Buckets: 65536},
		Configuration{
			Buckets: 65536, Sysctl: map[string]string{"net.netfilter.nf_conntrack_max": "262144"},
		})
	shorter := scenario("shorter", Clean, small,
		Configuration{
			Sysctl: map[string]string{"net.netfilter.nf_conntrack_tcp_timeout_time_wait": "5"},
		})
	exempt := scenario("raw-notrack", Clean, small,
		Configuration{Rules: "*raw\n-A PREROUTING -j NOTRACK\nCOMMIT"}, Outcome{Passed: true})
	exempt.Trials[0].Rules = notrackCount(1)
	kinder := scenario("keep-alive", Clean, small, conf{})
	kinder.Workload = `[{"Generator":"http","KeepAlive":true}]`
	for _, test := range []struct {
		name  string
		run   Run
		words []string
	}{
		{
			"baseline is enough", Run{Scenarios: []Scenario{shorter, raised}},
			[]string{"No change is needed: shorter"},
		},
		{"none", Run{Scenarios: []Scenario{baseline, baseline}}, []string{"No scenario met"}},
		{"fewest settings", Run{Scenarios: []Scenario{baseline, raised, shorter, exempt}},
			[]string{
				"shorter (nf_conntrack_tcp_timeout_time_wait = 5)",
				"forgets idle connections earlier",
			}},
		{"tracked before exempt", Run{Scenarios: []Scenario{baseline, exempt, raised}},
			[]string{
				"raised-max (nf_conntrack_max = 262144, 65,536 buckets)",
				"up to 64.5 MiB of kernel memory, 63.5 MiB more",
			}},
		{
			"exempt alone", Run{Scenarios: []Scenario{baseline, exempt}},
			[]string{"raw-notrack (other rules)", "cannot be translated (NAT)"},
		},
		{
			"another load",
			Run{Scenarios: []Scenario{baseline, kinder}},
			[]string{"No scenario with the load of baseline met"},
		},
		{
			"another load beside a cure", Run{Scenarios: []Scenario{baseline, kinder, raised}},
			[]string{"raised-max (nf_conntrack_max = 262144, 65,536 buckets)"},
		},
		{
			"other modules",
			Run{Scenarios: []Scenario{baseline, scenario("no-helper", Clean, small, conf{})}},
			[]string{"no-helper (other modules); it costs no memory"},
		},
		{
			"a failed threshold",
			Run{Scenarios: []Scenario{baseline, scenario("x", Clean, small, conf{}, Outcome{})}},
			[]string{"No scenario met"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Recommend(&test.run)
			for _, w := range test.words {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in: %s", w, got)
				}
			}
		})
	}
	if got := Recommend(&Run{Scenarios: []Scenario{baseline}}); got != "" {
		t.Errorf("one scenario: %s", got)
	}
}

// TestRecommendTheCure has a scenario whose thresholds assert the fault: it is not the
// recommendation.
func TestRecommendTheCure(t *testing.T) {
	trial := func(v Verdict) []Trial { return []Trial{{Number: 1, Verdict: v}} }
	held := []Outcome{{Expression: "x", Passed: true}}
	run := &Run{Scenarios: []Scenario{
		{Name: "fault", Trials: trial(TableFull), Thresholds: held},
		{
			Name: "cure", Configuration: Configuration{Buckets: 65536}, Trials: trial(Clean),
			Thresholds: held,
		},
	}}
	if best := Best(run); best == nil || best.Name != "cure" {
		t.Errorf("best is %v, want the cure", best)
	}
	run.Scenarios[1].Trials = trial(TableFull)
	if best := Best(run); best == nil || best.Name != "fault" {
		t.Errorf("best is %v: without a clean one, the first that met its thresholds", best)
	}
}
