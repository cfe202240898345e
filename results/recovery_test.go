package results

import (
	"math/rand/v2"
	"testing"
)

// watching returns a watch over a load that ended at second 10, with samples each tenth of a second
// from then on, in which the table is full and unchanged, and a bystander that lost two attempts.
func watching(now float64) Watch {
	w := Watch{
		LoadEnd: 10, Now: now, AtMost: 10, Failed: 7,
		Bystanders: []Bystander{
			{Interval: 0.1, Timeout: 1, Lost: 2, HeardLoss: 10.2, Answered: now - 0.1},
		},
	}
	for at := 10.0; at <= now; at += 0.1 {
		w.Samples = append(w.Samples, Sample{
			Seconds: at, Count: 4090, Max: 4096, Counters: Counters{Drop: 90, EarlyDrop: 8},
			LogLines: 20,
		})
	}
	return w
}

// undisturbed returns a watch without any trouble.
func undisturbed(now float64) Watch {
	w := watching(now)
	w.Failed = 0
	for i := range w.Samples {
		w.Samples[i] = Sample{Seconds: w.Samples[i].Seconds, Count: 5000, Max: 262144}
	}
	w.Bystanders = []Bystander{{Interval: 0.1, Timeout: 1, Answered: now - 0.1}}
	return w
}

func TestWatch(t *testing.T) {
	last := func(w *Watch) *Sample { return &w.Samples[len(w.Samples)-1] }
	draining := func(perSecond float64) func(*Watch) {
		return func(w *Watch) {
			for i := range w.Samples {
				w.Samples[i].Count = 3800 - int64(perSecond*(w.Samples[i].Seconds-10))
			}
		}
	}
	for _, test := range []struct {
		name  string
		watch Watch
		set   func(*Watch)
		want  RecoveryEnd // "": the watch goes on
	}{
		{"settled", watching(13), nil, Settled},
		{"two seconds have not passed", watching(12), nil, ""},
		{"bounded below", watching(13), func(w *Watch) { w.AtLeast = 4 }, ""},
		{
			"never longer than the bound", watching(20), func(w *Watch) { last(w).Counters.Drop++ },
			TimeOver,
		},
		{"no time at all", watching(10), func(w *Watch) { w.AtMost = 0 }, TimeOver},
		{"packets are still refused", watching(13), func(w *Watch) { last(w).Counters.Drop++ }, ""},
		{
			"inserts still fail", watching(13), func(w *Watch) { last(w).Counters.InsertFailed++ },
			"",
		},
		{
			"entries are still evicted, one for another", watching(13),
			func(w *Watch) { last(w).Counters.EarlyDrop += 9 }, Settled,
		},
		{
			"the load still arrives, and evicts", watching(13),
			func(w *Watch) { last(w).Counters.EarlyDrop += 60 }, "",
		},
		{"several are evicted for a few", watching(13), func(w *Watch) {
			last(w).Counters.EarlyDrop += 60
			last(w).Count -= 45
		}, Settled},
		{"the log still grows", watching(13), func(w *Watch) { last(w).LogSupp++ }, ""},
		{"the load still arrives", watching(13), func(w *Watch) { last(w).Count += 60 }, ""},
		{
			"a probe was lost late", watching(13),
			func(w *Watch) { w.Bystanders[0].HeardLoss = 11 }, "",
		},
		{
			"probes are not answered", watching(13),
			func(w *Watch) { w.Bystanders[0].Answered = 11 }, "",
		},
		{
			"probes were never lost", watching(12.3), func(w *Watch) { w.Bystanders[0].Lost = 0 },
			Settled,
		},
		{
			"a result is missing", watching(13), func(w *Watch) { w.Bystanders[0].Pending = true },
			"",
		},
		{
			"another bystander is not well", watching(13),
			func(w *Watch) {
				another := Bystander{Interval: 1, Timeout: 1, Answered: 10}
				w.Bystanders = append(w.Bystanders, another)
			},
			"",
		},
		{
			"a longer time limit asks for more", watching(13),
			func(w *Watch) { w.Bystanders[0].Timeout = 2 }, "",
		},
		{
			"no bystander: counters decide", watching(12.2), func(w *Watch) { w.Bystanders = nil },
			Settled,
		},
		{"no sample", watching(13), func(w *Watch) { w.Samples = nil }, ""},
		{"samples have stopped", watching(13), func(w *Watch) { w.Samples = w.Samples[:15] }, ""},
		{"it drains, too slowly to get below a tenth", watching(13), draining(10), Settled},
		{"it drains to below a tenth within the bound", watching(13), draining(400), ""},
		{"it has drained", watching(19), draining(420), Settled},
		{"no limit", watching(13), func(w *Watch) { last(w).Max = 0 }, Settled},

		{"undisturbed", undisturbed(10.7), nil, Undisturbed},
		{"at once is too early", undisturbed(10.4), nil, ""},
		{"bounded below, undisturbed", undisturbed(10.7), func(w *Watch) { w.AtLeast = 5 }, ""},
		{
			"a slow guest still takes packets of the load", undisturbed(10.7),
			func(w *Watch) { last(w).Count += 50 }, "",
		},
		{
			"bystanders make entries", undisturbed(10.7), func(w *Watch) { last(w).Count += 6 },
			Undisturbed,
		},
		{"a request failed", undisturbed(10.7), func(w *Watch) { w.Failed = 1 }, ""},
		{
			"a request failed, two seconds ago", undisturbed(12.2), func(w *Watch) { w.Failed = 1 },
			Settled,
		},
		{
			"an attempt from the load has no result", undisturbed(10.7),
			func(w *Watch) { w.Bystanders[0].Pending = true }, "",
		},
		{"a line in the log", undisturbed(10.7), func(w *Watch) { last(w).LogLines = 1 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.set != nil {
				test.set(&test.watch)
			}
			why, over := test.watch.End()
			if over != (test.want != "") || over && why != test.want {
				t.Errorf("got %q, %v, want %q", why, over, test.want)
			}
		})
	}
}

// TestWatch_EndsOnlyWithRecovery plays bystanders with random losses: where the watch calls the
// trial settled, the attempts known by then make it recovered, and as early as those of the whole
// time do.
func TestWatch_EndsOnlyWithRecovery(t *testing.T) {
	const loadEnd, atMost, interval, timeout = 10.0, 10.0, 0.1, 1.0
	draw := rand.New(rand.NewPCG(7, 0))
	early := 0
	for range 500 {
		var probes []ProbeSample
		bad := 1 + 18*draw.Float64() // when losses end
		for at := 0.0; at < loadEnd+atMost; at += interval {
			p := ProbeSample{
				Seconds: at, Millis: 1 + 80*draw.Float64(), OK: at > bad || draw.IntN(3) == 0,
			}
			if !p.OK {
				p.Millis = timeout * 1000
			}
			probes = append(probes, p)
		}
		heard := func(p ProbeSample) float64 {
			return p.Seconds + p.Millis/1000 + 0.1*draw.Float64()
		}
		for now := loadEnd; now < loadEnd+atMost; now += 0.1 {
			w := watching(now)
			b := Bystander{Interval: interval, Timeout: timeout}
			var known []ProbeSample
			for _, p := range probes {
				at := heard(p)
				if at > now {
					continue
				}
				known = append(known, p)
				if p.OK {
					b.Answered = max(b.Answered, p.Seconds)
				} else {
					b.Lost++
					b.HeardLoss = max(b.HeardLoss, at)
				}
			}
			w.Bystanders = []Bystander{b}
			why, over := w.End()
			if !over {
				continue
			}
			early++
			cut, whole := Trial{Seconds: loadEnd}, Trial{Seconds: loadEnd}
			summariseProbes(&cut, known)
			summariseProbes(&whole, probes)
			got, want := cut.Conntrack.SecondsToRecover, whole.Conntrack.SecondsToRecover
			if why != Settled || got == nil || want == nil || *got != *want {
				t.Fatalf("ended at %.1f (%s), losses until %.1f: recovered after %v, want %v",
					now, why, bad, got, want)
			}
			break
		}
	}
	if early < 200 {
		t.Errorf("%d of 500 ended early", early)
	}
}

func TestThreshold_OfRecovery(t *testing.T) {
	named := Workload{Probes: map[string]Probe{"ssh-login": {}, "dns": {}}}
	for _, field := range ofRecovery {
		if _, known := trialFields.known[field]; !known {
			t.Errorf("a trial has no field %s", field)
		}
	}
	for expression, want := range map[string]bool{
		"conntrack.drop == 0":                 false,
		"load.failed == 0":                    false,
		"probe.lost == 0":                     false,
		"conntrack.final > 400":               true,
		"heal.broken == 0":                    true,
		"probe.lost >= 0.3 * probe.sent":      true,
		"conntrack.seconds_to_recover < 2":    true,
		"probe.after.lost == 0":               true,
		"probes.dns.lost == 0":                false,
		"probes.dns.loss < 0.1":               true,
		`probes["ssh-login"].after.lost == 0`: true,
		`sum(filter(contents.states, .state == "ESTABLISHED"), .entries) == 0`: true,
		"conntrack.drop == 0 and conntrack.seconds_to_below_10 == never":       true,
	} {
		threshold, err := CompileThreshold(expression, named)
		if err != nil {
			t.Fatal(err)
		}
		if got := threshold.OfRecovery(); got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
	}
}
