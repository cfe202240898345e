package orchestrator

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// acting has one action after another on its time line, each over before the next one begins. A
// machine may stand still for as long as a valid trial allows (two seconds without a sample) at any
// point: what must succeed has longer.
const acting = `
experiment: acting
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
  sysctl: {net.netfilter.nf_conntrack_max: 65536}
workload:
  - {generator: http, name: pages, rate: 40/s, duration: 43s, timeout: 3s}
  - {generator: tcp, name: more, connections: 400, rate: 200/s, ports: 81, timeout: 5s}
  - {probe: udp, port: 7, rate: 20/s, timeout: 3s}
steady:
  - probe.loss == 0
actions:
  - {action: join, entry: more, at: 2s}
  - {action: server-stop, ports: 80, at: 6500ms, for: 2s}
  - {action: server-stall, ports: 80, at: 11s, for: 5s}
  - {action: link-down, at: 21s, for: 1s, every: 6s, times: 2}
  - {action: partition, at: 33s, for: 1s}
  - {action: clock-jump, by: 1h, at: 38s, for: 3s}
recovery: 1s
scenarios:
  one: {}
  throttled:
    workload:
      - {generator: http, name: pages, concurrency: 4, duration: 18s, timeout: 10s}
    actions:
      - {action: cpu-throttle, share: 80%, at: 6s, for: 6s}
  meeting:
    workload:
      - {generator: udp, rate: 20/s, duration: 8s, silent: true}
    actions:
      - {action: network, name: slow, delay: 5ms, at: 1s}
      - {action: link-down, name: cut, when: elapsed > 2, for: 500ms}
`

// played is a finished trial, as its files hold it.
type played struct {
	*testing.T
	trial   results.Trial
	samples []results.Sample
	probes  []results.ProbeSample
	unmet   *[]string // conditions that do not hold
}

// acts returns the actions of a name, each performed and, where possible, undone.
func (p played) acts(name string, n int) []results.Action {
	p.Helper()
	var list []results.Action
	for _, a := range p.trial.Actions {
		if a.Name != name {
			continue
		}
		if a.Failure != "" || a.Begun == nil || a.Lasts() && a.Ended == nil {
			p.Fatalf("%s was not made and taken back: %+v", name, a)
		}
		p.holds(!a.Lasts() || len(a.Effects) > 0, "%s was read back", name)
		p.Logf("%v, from %+v", a, a.Effects)
		list = append(list, a)
	}
	if len(list) != n {
		p.Fatalf("%d actions are called %s, want %d", len(list), name, n)
	}
	return list
}

// between returns how much a figure of the samples grew from one time to another.
func (p played) between(from, to float64, figure func(results.Sample) int64) int64 {
	at := func(seconds float64) (value int64) {
		for _, s := range p.samples {
			if s.Seconds <= seconds {
				value = figure(s)
			}
		}
		return value
	}
	return at(to) - at(from)
}

// lost returns how many probes sent between two times were lost, and how many were sent.
func (p played) lost(from, to float64) (lost, sent int) {
	for _, probe := range p.probes {
		if probe.Seconds >= from && probe.Seconds < to {
			sent++
			if !probe.OK {
				lost++
			}
		}
	}
	return lost, sent
}

func (p played) holds(ok bool, format string, args ...any) {
	p.Helper()
	if !ok {
		*p.unmet = append(*p.unmet, fmt.Sprintf(format, args...))
		return
	}
	p.Logf("holds: "+format, args...)
}

func count(s results.Sample) int64  { return s.Count }
func failed(s results.Sample) int64 { return progressOf(s).Failed }
func done(s results.Sample) int64   { return progressOf(s).Done }

// progressOf adds up what was done of all entries, whatever their units.
func progressOf(s results.Sample) (all results.Progress) {
	for _, p := range s.Entries {
		all.Add(p)
	}
	return all
}

// TestActions leads actions from an experiment through the time line of a trial: each is read back,
// shows in figures that it did not make (the fill of the table, the answers that load and bystander
// get, the time of day), and shows no more when its time is over.
func TestActions(t *testing.T) {
	inLab(t, func(t *testing.T) {
		var mu sync.Mutex
		var offsets []time.Duration // the guest's time of day minus this host's
		p := play{
			text: acting,
			order: []Slot{{Scenario: 0, Number: 1}, {Scenario: 1, Number: 1},
				{Scenario: 2, Number: 1}},
			when: func(s results.Sample) bool { return s.Seconds > 36 },
			act: func(ctx context.Context, dut, _ vm.Node) error {
				for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
					asked := time.Now()
					clock, err := dut.Agent().Clock(ctx)
					if err != nil {
						return err
					}
					if time.Since(asked) < 500*time.Millisecond { // a slower exchange says little
						mu.Lock()
						offsets = append(offsets, time.Until(clock.Realtime))
						mu.Unlock()
					}
					if err := wait(ctx, 100*time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			},
		}
		r := p.request(t)
		s := r.View.(*stage)
		r.Lab = struct { // the stage, with its lab's control of links
			*stage
			vm.LinkFaulty
		}{s, s.Lab.(vm.LinkFaulty)}
		var run *results.Run
		var unmet []string
		labtest.Repeat(t, func() bool {
			if run != nil {
				t.Logf("these do not hold: %q", unmet)
				r = renewed(t, r)
			}
			offsets = nil
			run = once(t, r)
			unmet = judged(t, r, run, offsets)
			if s.failure != nil {
				unmet = append(unmet, fmt.Sprintf("the clock is told: %v", s.failure))
			}
			spoilt := run.Scenarios[0].Trials[0].Spoilt() || run.Scenarios[1].Trials[0].Spoilt()
			return len(unmet) == 0 || !spoilt
		})
		for _, claim := range unmet {
			t.Errorf("does not hold: %s", claim)
		}
		if met := run.Scenarios[2].Trials[0]; met.Verdict != results.Invalid ||
			!strings.Contains(strings.Join(met.Invalid, "\n"),
				"cut could not be performed: slow still has dut/client") {
			t.Errorf("two actions met on one link, and the trial is %s: %v", met.Verdict,
				met.Invalid)
		}
	})
}

// judged returns the conditions that a run of acting does not meet. offsets are those of the
// guest's time of day.
func judged(t *testing.T, r Request, run *results.Run, offsets []time.Duration) (unmet []string) {
	t.Helper()
	over := func(scenario int) played {
		trial := run.Scenarios[scenario].Trials[0]
		samples, probes, err := r.Folder.Series(&trial)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range trial.Invalid {
			t.Logf("INVALID: %s", reason) // a busy host; the effects are there all the same
		}
		return played{t, trial, samples, probes, &unmet}
	}
	disturbed := over(0)
	disturbed.join()
	disturbed.servers()
	disturbed.links()
	disturbed.heal()
	disturbed.clock(offsets)
	over(1).throttled()
	return unmet
}

func (p played) join() {
	at := *p.acts("join", 1)[0].Begun
	before, with, after := p.between(at-1, at-0.1, count), p.between(at-0.1, at+3.4, count),
		p.between(at+3.4, at+4.3, count)
	// Pages and probes make 60 entries a second. A guest that stood still makes the missing ones
	// afterwards.
	p.holds(before < 180 && with > 450 && after < 180, "the table grew by %d entries in 0.9 s "+
		"before, %d in 3.5 s with 400 more, %d in 0.9 s afterwards", before, with, after)
}

func (p played) servers() {
	stop, stall := p.acts("server-stop", 1)[0], p.acts("server-stall", 1)[0]
	quiet := p.between(0, *stop.Begun-0.1, failed)
	stopped, rest := p.between(*stop.Begun-0.1, *stop.Ended+1.5, failed),
		p.between(*stop.Ended+1.5, *stall.Begun-0.1, failed)
	stalled, gone := p.between(*stall.Begun-0.1, *stall.Ended+2.5, failed),
		p.between(*stall.Ended+2.5, 20.9, failed)
	causes := p.trial.Entries["pages"].Causes
	p.holds(quiet == 0 && stopped >= 30 && rest == 0,
		"%d requests failed before, %d of 80 while the server was stopped, %d afterwards", quiet,
		stopped, rest)
	p.holds(causes["refused"] >= 30, "they were refused: %v", causes)
	p.holds(stalled >= 25 && gone == 0, "%d of 200 while it was stalled, %d afterwards", stalled,
		gone)
	lost, sent := p.lost(*stop.Begun-1, *stall.Ended)
	p.holds(lost == 0 && sent > 50, "%d of %d probes to the other server were lost", lost, sent)
}

func (p played) links() {
	flaps := p.acts("link-down", 2)
	part := p.acts("partition", 1)[0]
	for i, down := range append(flaps, part) {
		next := []float64{*flaps[1].Begun, *part.Begun, *part.Ended + 4.5}[i]
		lost, sent := p.lost(*down.Begun+down.Took+0.05, *down.Ended-0.05)
		p.holds(lost == sent && sent >= 5, "%s: %d of %d probes were lost", down.Name, lost, sent)
		// The kernel waits a second before it uses a card that is plugged in again; a busy host
		// takes longer.
		back := math.Inf(1)
		for _, probe := range p.probes {
			if probe.OK && probe.Seconds > *down.Ended {
				back = probe.Seconds
				break
			}
		}
		late, rest := p.lost(back, next-0.1)
		p.holds(late <= 1 && rest >= 10,
			"%s: answered again %.2f s after its end, and then %d of %d lost", down.Name,
			back-*down.Ended, late, rest)
	}
}

// heal compares the moment of healing with the bystander's own log.
func (p played) heal() {
	end := *p.acts("partition", 1)[0].Ended
	lastLost, answered := 0.0, 0.0
	for _, probe := range p.probes {
		if !probe.OK && probe.Seconds < end+1 {
			lastLost = probe.Seconds
		}
	}
	for _, probe := range p.probes {
		if probe.OK && probe.Seconds > lastLost {
			answered = probe.Seconds
			break
		}
	}
	if p.trial.Heal == nil || p.trial.Heal.Healed == nil {
		p.holds(false, "it has healed: %+v", p.trial.Heal)
		return
	}
	interval := 0.0
	for i, s := range p.samples[1:] {
		if math.Abs(s.Seconds-answered) < 1 {
			interval = max(interval, s.Seconds-p.samples[i].Seconds)
		}
	}
	healed := *p.trial.Heal.Healed
	// A sample that has both, the last lost one and the first answered one, is not steady yet.
	p.holds(healed > lastLost && healed-answered <= interval+answered-lastLost,
		"well from %.2f s on, by the bystander's log after %.2f and until %.2f s; samples are "+
			"%.2f s apart at most",
		healed, lastLost, answered, interval)
}

func (p played) clock(offsets []time.Duration) {
	p.acts("clock-jump", 1)
	if len(offsets) == 0 {
		p.holds(false, "somebody looked at the clock")
		return
	}
	// The offsets before and after; the guest set its clock to a whole second as it booted.
	first, last := offsets[0], offsets[len(offsets)-1]
	jumped := 0
	for _, offset := range offsets {
		if (offset - first - time.Hour).Abs() < time.Second {
			jumped++
		}
	}
	p.holds(jumped >= 5 && (last-first).Abs() < time.Second, "the guest's time of day was off "+
		"by %v, an hour more in %d of %d looks, and by %v in the end", first, jumped, len(offsets),
		last)
}

func (p played) throttled() {
	a := p.acts("cpu-throttle", 1)[0]
	rate := func(from, to float64) float64 {
		return float64(p.between(from, to,
			done)) / (to - from)
	}
	before, during, after := rate(0.5, *a.Begun-0.1), rate(*a.Begun+0.5, *a.Ended-0.1),
		rate(*a.Ended+0.5, p.trial.Seconds-0.2)
	p.holds(during < 0.5*before && during < 0.5*after,
		"%.0f requests a second, %.0f with 80 %% of the CPU taken, %.0f afterwards", before, during,
		after)
}
