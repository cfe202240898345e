package results

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// series returns a table of max 1000 that fills within a second, drops, and drains after second 2.
func series() []Sample {
	return []Sample{
		{Seconds: -0.2, Count: 3, Max: 1000, Buckets: 1024},
		{Seconds: -0.1, Count: 4, Max: 1000, Buckets: 1024},
		{Seconds: 0, Count: 4, Max: 1000, Buckets: 1024},
		{Seconds: 0.5, Count: 760, Max: 1000, Buckets: 1024},
		{Seconds: 0.6, Count: 860, Max: 1000, Buckets: 1024},
		// full in between
		{Seconds: 0.65, Count: 998, Max: 1000, Buckets: 1024, Counters: Counters{EarlyDrop: 2}},
		{Seconds: 0.7, Count: 1000, Max: 1000, Buckets: 1024, Counters: Counters{EarlyDrop: 9}},
		{
			Seconds: 0.8, Count: 1000, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 5}, LogLines: 5,
		},
		{
			Seconds: 2.0, Count: 1000, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 90}, LogLines: 10,
		},
		{
			Seconds: 3.0, Count: 960, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 95}, LogLines: 10, LogSupp: 80,
		},
		{
			Seconds: 4.0, Count: 940, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 95}, LogLines: 10, LogSupp: 80,
		},
		{
			Seconds: 9.0, Count: 99, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 95}, LogLines: 10, LogSupp: 80,
		},
		{
			Seconds: 9.1, Count: 50, Max: 1000, Buckets: 1024,
			Counters: Counters{EarlyDrop: 9, Drop: 95, Found: 1}, LogLines: 10, LogSupp: 80,
		},
	}
}

func TestSummarise(t *testing.T) {
	trial := Trial{
		Seconds: 2, Entries: failing(unitFlows, 1000, 0),
		Prediction: &Prediction{Peak: 800, SecondsToFull: s(0.5), Rate: 2000, Drop: 100},
	}
	Summarise(&trial, series(), []ProbeSample{
		{Seconds: 0.1, Millis: 1, OK: true},
		{Seconds: 1.1, Millis: 1000, Cause: CauseTimeout},
		{Seconds: 2.1, Millis: 400, OK: true}, // lucky: the next one is lost
		{Seconds: 3.1, Millis: 1000, Cause: CauseTimeout},
		{Seconds: 4.1, Millis: 500, OK: true},
		{Seconds: 5.1, Millis: 1, OK: true},
		{Seconds: 6.1, Millis: 1, OK: true},
	})
	want := Conntrack{
		Counters: Counters{EarlyDrop: 9, Drop: 95, Found: 1}, Tracked: true,
		Baseline: 4, Peak: 1000, Final: 50, Max: 1000, Buckets: 1024, LogLines: 10, LogSupp: 80,
		SecondsToFull: s(0.65), FullAt: 1000, FirstDrop: s(0.8), FirstEarlyDrop: s(0.65),
		SecondsToRecover: s(2.6), SecondsToBelow95: s(2), SecondsToBelow10: s(7),
		SecondsToLogQuiet: s(1),
		Alerts: []Alert{
			{Share: 0.75, Fired: 0.5, Lead: s(0.3)},
			{Share: 0.80, Fired: 0.6, Lead: s(0.2)},
			{Share: 0.90, Fired: 0.65, Lead: s(0.15)},
			{Share: 0.95, Fired: 0.65, Lead: s(0.15)},
		},
		Samples: 13, LongestGap: 5, FillShare: 1,
	}
	if diff := cmp.Diff(want, trial.Conntrack, nearly); diff != "" {
		t.Error(diff)
	}
	if trial.Probe.Sent != 7 || trial.Probe.Lost != 2 {
		t.Errorf("probe: %+v", trial.Probe)
	}
	for name, p := range map[string]struct {
		got        ProbePhase
		sent, lost int64
		p50, most  float64
	}{
		"before": {trial.Probe.Before, 0, 0, 0, 0},
		"during": {trial.Probe.During, 2, 1, 1, 1},
		"after":  {trial.Probe.After, 5, 1, 1, 500},
	} {
		if p.got.Sent != p.sent || p.got.Lost != p.lost || p.got.Latency.P50 != p.p50 ||
			p.got.Latency.Max != p.most {
			t.Errorf("probe %s the load: %+v", name, p.got)
		}
	}
	predicted := Prediction{
		Peak: 800, SecondsToFull: s(0.5), Rate: 2000, Drop: 100, PeakError: s(0.25),
		FullError: s(0.3), DropError: s(-0.05),
	}
	if diff := cmp.Diff(predicted, *trial.Prediction, nearly); diff != "" {
		t.Error(diff)
	}
}

var nearly = cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })

func TestSummariseEdges(t *testing.T) {
	t.Run("no sample", func(t *testing.T) {
		trial := Trial{Conntrack: Conntrack{Max: 7}}
		Summarise(&trial, nil, nil)
		if diff := cmp.Diff(Trial{Conntrack: Conntrack{Max: 7}}, trial); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("nothing tracked", func(t *testing.T) {
		trial := Trial{Seconds: 1}
		Summarise(&trial,
			[]Sample{{Seconds: -1, Max: 100}, {Seconds: 0, Max: 100}, {Seconds: 8, Max: 100}}, nil)
		c := trial.Conntrack
		if c.Tracked || c.SecondsToFull != nil || len(c.Alerts) > 0 || trial.Probe != nil {
			t.Errorf("%+v", c)
		}
		if diff := cmp.Diff(s(0), c.SecondsToBelow10); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("still full at the end", func(t *testing.T) {
		trial := Trial{Seconds: 1}
		Summarise(&trial,
			[]Sample{
				{Seconds: 0, Max: 100}, {Seconds: 1, Count: 100, Max: 100, LogLines: 1},
				{Seconds: 2, Count: 100, Max: 100, LogLines: 2},
			},
			// At its limit a table takes a connection now and then, which is no recovery.
			[]ProbeSample{
				{Seconds: 1.5, OK: true}, {Seconds: 1.6}, {Seconds: 1.7, OK: true},
				{Seconds: 1.8, OK: true},
			})
		c := trial.Conntrack
		if c.SecondsToBelow95 != nil || c.SecondsToBelow10 != nil || c.SecondsToLogQuiet != nil ||
			c.SecondsToRecover != nil {
			t.Errorf("%+v", c)
		}
	})
	t.Run("unlimited", func(t *testing.T) {
		trial := Trial{Seconds: 1}
		Summarise(&trial, []Sample{{Seconds: 0}, {Seconds: 1, Count: 500}}, nil)
		c := trial.Conntrack
		if c.SecondsToFull != nil || len(c.Alerts) > 0 || c.Fill() != 0 || c.Peak != 500 {
			t.Errorf("%+v", c)
		}
	})
}

// TestSummarise_LastSample: the time until the last sample, for which the trial waits until no
// frame is under way, is none in which the DUT stood still.
func TestSummarise_LastSample(t *testing.T) {
	var trial Trial
	Summarise(&trial, []Sample{{Seconds: 0}, {Seconds: 0.2}, {Seconds: 0.3}, {Seconds: 3}}, nil)
	if gap := trial.Conntrack.LongestGap; gap != 0.2 {
		t.Errorf("the longest gap is %v s, want 0.2", gap)
	}
}
