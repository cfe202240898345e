package orchestrator

import (
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/scenarios"
)

const estimateHead = `experiment: x
dut:
  memory: 512MiB
  nft: 'table inet f { chain c { type filter hook input priority 0; ct state new accept } }'
`

func TestEstimate(t *testing.T) {
	plan := func(text string) *Plan {
		t.Helper()
		e, _, err := scenarios.Parse("x.yaml", []byte(estimateHead+text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	seconds := func(p *Plan, i int) float64 {
		before, after := p.trialSeconds(i, p.Scenarios[i], labs.EmulatedPace)
		return before + after - labs.EmulatedPace.Boot - labs.EmulatedPace.Around
	}
	for _, test := range []struct {
		name, text string
		want       float64 // besides Boot and Around
	}{
		{"open loop", "workload: [{generator: http, rate: 100/s, duration: 10s}]\n", 10.7},
		{"a number at a rate", "workload: [{generator: http, rate: 100/s, requests: 500}]\n", 5.7},
		{"closed loop", "workload: [{generator: http, concurrency: 100, requests: 1800}]\n", 2.7},
		{"closed loop, bounded",
			"workload: [{generator: http, concurrency: 100, requests: 3600, duration: 3s}]\n", 3.7},
		{"a full table",
			"workload: [{generator: http, concurrency: 100, requests: 9000, timeout: 4s}]\n", 17},
		{"a probe leads", "workload: [{generator: http, rate: 100/s, duration: 10s}, {probe: " +
			"tcp, port: 22, rate: 10/s}]\n", 10.7 + probeLead.Seconds()},
		{"held open",
			"workload: [{generator: hold, connections: 1000, rate: 100/s, duration: 3s}]\n", 13.7},
		{"held open, as fast as may be",
			"workload: [{generator: hold, connections: 900, duration: 3s}]\n", 4.7},
		{"phases",
			"phases: {a: 4s, b: 20s}\nworkload: [{generator: http, rate: 100/s, phase: a}]\n",
			24.7},
		{"all of the recovery", "workload: [{generator: http, rate: 100/s, duration: 10s}]\n" +
			"thresholds: {all: conntrack.final < 5}\n", 15},
		{"recovery bounded below",
			"workload: [{generator: http, rate: 100/s, duration: 10s}]\nrecovery: {at-least: 2s}\n",
			12},
		{"actions", "workload: [{generator: http, rate: 100/s, duration: 10s}]\nrecovery: 3s\n" +
			"actions: [{action: flush, at: 1s}]\n", 13},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := seconds(plan(test.text), 0); got < test.want-0.01 || got > test.want+0.01 {
				t.Errorf("%.2f s, want %.2f", got, test.want)
			}
		})
	}
	twice := plan("workload: [{generator: http, rate: 100/s, duration: 10s}]\n" +
		"scenarios: {a: {}, b: {}}\ntrials: 3\n")
	before, after := twice.trialSeconds(0, twice.Scenarios[0], labs.EmulatedPace)
	alone := labs.EmulatedPace
	alone.Early = false
	if got, want := twice.estimate(alone).Seconds(),
		6*(before+after)+labs.EmulatedPace.Lab; math.Abs(got-want) > 0.1 {
		t.Errorf("six trials: %.1f s, want %.1f", got, want)
	}
	if runtime.NumCPU() > 1 { // all but the first boot during the trial before them
		if got, want := twice.estimate(labs.EmulatedPace).Seconds(),
			6*(before+after)+labs.EmulatedPace.Lab-5*after; math.Abs(got-want) > 0.1 {
			t.Errorf("six trials, each booting early: %.1f s, want %.1f", got, want)
		}
	}
	if kvm := twice.estimate(labs.KVMPace); kvm >= twice.estimate(labs.EmulatedPace) {
		t.Errorf("with KVM: %v", kvm)
	}
}

func TestEstimate_OfWhatIsShipped(t *testing.T) {
	for _, name := range scenarios.Names() {
		e, _, err := scenarios.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := p.estimate(labs.EmulatedPace); d < 5*time.Second || d > 10*time.Minute {
			t.Errorf("%s: %v", name, d)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{2 * time.Second, "5 s"},
		{45 * time.Second, "40 to 70 s"},
		{50 * time.Second, "45 to 75 s"},
		{75 * time.Second, "1 to 2 min"},
		{20 * time.Minute, "18 to 30 min"},
	} {
		if got := span(test.d); got != test.want {
			t.Errorf("%v: %s, want %s", test.d, got, test.want)
		}
	}
}
