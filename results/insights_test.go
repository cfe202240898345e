package results

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInsights(t *testing.T) {
	lead := func(share, fired, lead float64) Alert { return Alert{Share: share, Fired: fired, Lead: &lead} }
	for _, test := range []struct {
		name  string
		trial Trial
		want  []string
	}{
		{"clean", Trial{Verdict: Clean, Conntrack: Conntrack{Max: 10, Peak: 8, Alerts: []Alert{{Share: 0.75}}}}, nil},
		{"invalid", Trial{Verdict: Invalid, Prediction: &Prediction{PeakError: s(1)}}, nil},
		{
			"full, and never well again",
			Trial{Verdict: TableFull, Probe: &Probe{}, Conntrack: Conntrack{
				Counters: Counters{Drop: 5}, Max: 100, Peak: 100,
				Alerts: []Alert{lead(0.75, 5.7, 3.4), lead(0.95, 8.6, 0.5)},
			}},
			[]string{
				"Alerts on the table's fill: at 75 % 3.40 s before the first drop, at 95 % 0.50 s before the first drop.",
				"Recovery, as far as it was watched: new connections not yet reliable, the table still above 95 %.",
			},
		},
		{
			"evicting, and well again",
			Trial{Verdict: Evicting, Probe: &Probe{}, Conntrack: Conntrack{
				Counters: Counters{EarlyDrop: 5}, Max: 100, Peak: 100, Alerts: []Alert{{Share: 0.75, Fired: 2}},
				SecondsToRecover: s(0.1), SecondsToBelow95: s(0), SecondsToBelow10: s(31),
			}},
			[]string{
				"Alerts on the table's fill: at 75 % 2.00 s into the load; on drops: never.",
				"Recovery, as far as it was watched: new connections after 0.10 s, the table below 95 % after 0 s, below 10 % after 31.0 s.",
			},
		},
		{
			"silent",
			Trial{Verdict: ChainTooLong, Conntrack: Conntrack{Max: 200000, Peak: 17000}},
			[]string{"No alert on the table's fill would have fired: it was 8.5 % at most."},
		},
		{
			"the alert came late",
			Trial{Verdict: TableFull, Conntrack: Conntrack{Counters: Counters{Drop: 1}, Max: 100, Peak: 100, SecondsToBelow95: s(1), Alerts: []Alert{lead(0.75, 2, -0.2)}}},
			[]string{
				"Alerts on the table's fill: at 75 % 0.20 s after the first drop.",
				"Recovery, as far as it was watched: the table below 95 % after 1.00 s, still above 10 %.",
			},
		},
		{
			"predicted",
			Trial{
				Verdict: Clean, Conntrack: Conntrack{Max: 4096, Peak: 4096, SecondsToFull: s(9)},
				Prediction: &Prediction{Peak: 4000, SecondsToFull: s(8.5), PeakError: s(0.024)},
			},
			[]string{"Predicted was a peak of 4000; measured were 4096 (+2.4 %), and a full table after 8.50 s; measured were 9.00 s."},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Insights(&test.trial)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
