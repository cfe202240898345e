package results

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInsights(t *testing.T) {
	lead := func(share, fired, lead float64) Alert {
		return Alert{Share: share, Fired: fired, Lead: &lead}
	}
	lost := &Probe{Lost: 1, After: ProbePhase{Lost: 1}}
	for _, test := range []struct {
		name  string
		trial Trial
		want  []string
	}{
		{
			"clean",
			Trial{
				Verdict:   Clean,
				Conntrack: Conntrack{Max: 10, Peak: 8, Alerts: []Alert{{Share: 0.75}}},
			},
			nil,
		},
		{"invalid", Trial{Verdict: Invalid, Prediction: &Prediction{PeakError: s(1)}}, nil},
		{
			"full, and never well again",
			Trial{Verdict: TableFull, Probe: lost, Conntrack: Conntrack{
				Counters: Counters{Drop: 5}, Max: 100, Peak: 100,
				Alerts: []Alert{lead(0.75, 5.7, 3.4), lead(0.95, 8.6, 0.5)},
			}},
			[]string{
				"An alert at 75 % fill would have fired 3.40 s before the first " +
					"drop, one at 95 % 0.50 s before the first drop.",
				"After the load new connections did not become reliable; the table stayed above " +
					"95 %.",
			},
		},
		{
			"healed by a fix, and watched too briefly after the load",
			Trial{Verdict: TableFull, Probe: &Probe{Lost: 9, Pending: 1}, Conntrack: Conntrack{
				Counters: Counters{Drop: 5}, Max: 100, Peak: 100,
				Alerts: []Alert{lead(0.75, 5.7, 3.4)}, SecondsToBelow95: s(0),
			},
				Heal: &Heal{
					Deviated: s(3), SecondsToDeviate: s(3), Healed: s(13), SecondsToHeal: s(0.2),
				},
			},
			[]string{
				"The trial left its steady state 3.00 s after the start of the load and returned " +
					"to it 0.20 s after the deviation.",
				"An alert at 75 % fill would have fired 3.40 s before the first " +
					"drop.",
				"After the load the table was below 95 % after 0 s, and stayed above 10 %.",
			},
		},
		{
			"evicting, and well again",
			Trial{Verdict: Evicting, Probe: &Probe{Lost: 1}, Conntrack: Conntrack{
				Counters: Counters{EarlyDrop: 5}, Max: 100, Peak: 100,
				Alerts:           []Alert{{Share: 0.75, Fired: 2}},
				SecondsToRecover: s(0.1), SecondsToBelow95: s(0), SecondsToBelow10: s(31),
			}},
			[]string{
				"An alert at 75 % fill would have fired 2.00 s into the load; one on drops " +
					"would not have fired.",
				"After the load new connections succeeded again after 0.10 s; the table was " +
					"below 95 % after 0 s and below 10 % after 31.0 s.",
			},
		},
		{
			"nothing lost after it, in too short a watch",
			Trial{Verdict: TableFull,
				Probe: &Probe{Lost: 9, After: ProbePhase{Sent: 10}},
				Conntrack: Conntrack{
					Counters: Counters{Drop: 5}, Max: 400, Peak: 400,
					Alerts: []Alert{lead(0.75, 5.7, 3.4)},
				},
				Recovery: &Recovery{Watched: 2},
				Contents: &Contents{Entries: 49, Assured: 49},
			},
			[]string{
				"An alert at 75 % fill would have fired 3.40 s before the first " +
					"drop.",
				"Within the 2.00 s watched after the load, no new connection failed, in a watch " +
					"too short to call that reliable; the count stayed above 95 % of max, " +
					"though all but 49 entries had expired.",
				"At the end the table held 49 entries, 49 of them ASSURED.",
			},
		},
		{
			"nothing lost at all",
			Trial{Verdict: TableFull, Probe: &Probe{Sent: 60}, Conntrack: Conntrack{
				Counters: Counters{Drop: 5}, Max: 400, Peak: 400,
				Alerts:           []Alert{lead(0.75, 5.7, 3.4)},
				SecondsToRecover: s(0), SecondsToBelow95: s(1), SecondsToBelow10: s(2),
			}},
			[]string{
				"An alert at 75 % fill would have fired 3.40 s before the first " +
					"drop.",
				"After the load no new connection failed; the table was below 95 % after 1.00 s " +
					"and below 10 % after 2.00 s.",
			},
		},
		{
			"attempts under way when the watch ended",
			Trial{Verdict: Clean, Probe: &Probe{
				Sent: 40, Lost: 10, Pending: 6, During: ProbePhase{Sent: 30, Lost: 10},
				After: ProbePhase{Sent: 10},
			}},
			[]string{
				"A bystander's connections: during it 33 % lost; after it 0 % lost; 6 more " +
					"attempts had no result when the watch ended.",
			},
		},
		{
			"silent",
			Trial{Verdict: ChainTooLong, Conntrack: Conntrack{Max: 200000, Peak: 17000}},
			[]string{"No alert on the table's fill would have fired: the fill was 8.5 % at most."},
		},
		{
			"the alert came late",
			Trial{
				Verdict: TableFull,
				Conntrack: Conntrack{
					Counters: Counters{Drop: 1}, Max: 100, Peak: 100, SecondsToBelow95: s(1),
					Alerts: []Alert{lead(0.75, 2, -0.2)},
				},
			},
			[]string{
				"An alert at 75 % fill would have fired 0.20 s after the first " +
					"drop.",
				"After the load the table was below 95 % after 1.00 s, and stayed above 10 %.",
			},
		},
		{
			"predicted",
			Trial{
				Verdict: Clean, Conntrack: Conntrack{Max: 4096, Peak: 4096, SecondsToFull: s(9)},
				Prediction: &Prediction{Peak: 4000, SecondsToFull: s(8.5), PeakError: s(0.024)},
			},
			[]string{
				"Predicted peak 4000, measured 4096 (+2.4 %); full after 8.50 s, measured " +
					"after 9.00 s.",
			},
		},
		{
			"what the table held",
			Trial{
				Verdict: Evicting, Conntrack: Conntrack{Counters: Counters{EarlyDrop: 1}},
				Contents: &Contents{
					Entries: 2000, Assured: 12, Addresses: 2, SlabBytes: 512 << 10,
					HashBytes: 16 << 10,
					States:    []StateCount{{"udp", "UNREPLIED", 1900}, {"tcp", "TIME_WAIT", 100}},
					Sources:   []SourceCount{{"10.77.0.2", 1990, 0}, {"10.77.0.3", 10, 0}},
				},
			},
			[]string{
				"At the end the table held 2000 entries, 12 of them ASSURED, 1900 udp UNREPLIED, " +
					"100 tcp TIME_WAIT; the busiest source had 1990 (10.77.0.2); they " +
					"took 512 KiB of slab memory, and the hash 16.0 KiB.",
			},
		},
		{
			"predicted drops",
			Trial{
				Verdict:   TableFull,
				Conntrack: Conntrack{Counters: Counters{Drop: 4900}, Peak: 2000},
				Prediction: &Prediction{
					Peak: 2000, Rate: 500, Drop: 4890, DropLow: 4700, DropHigh: 5080,
					PeakError: s(0), DropError: s(0.002),
				},
			},
			[]string{
				"Predicted peak 2000, as measured; drop 4890 (4700 to 5080), measured 4900.",
			},
		},
		{
			"predicted without ports",
			Trial{
				Verdict:   NATExhausted,
				Conntrack: Conntrack{Counters: Counters{Drop: 50}, Peak: 100},
				Prediction: &Prediction{
					Peak: 100, Rate: 100, Drop: 50, NATRefused: 50, NATPorts: 100,
				},
			},
			[]string{
				"Predicted peak 100, as measured; drop 50, measured 50; 50 new connections " +
					"without a free one of NAT's 100 source ports.",
			},
		},
		{
			"nothing predicted",
			Trial{
				Verdict:    NotConntrack,
				Conntrack:  Conntrack{Max: 100, Peak: 100, SecondsToFull: s(0.5)},
				Prediction: &Prediction{},
			},
			[]string{"Predicted peak 0, measured 100; never full, but measured full after 0.50 s."},
		},
		{
			"a range",
			Trial{
				Verdict: Clean, Conntrack: Conntrack{Max: 1000, Peak: 915},
				Prediction: &Prediction{
					Peak: 886, PeakLow: 411, PeakHigh: 1000, FullEarly: s(7), PeakError: s(0.033),
				},
			},
			[]string{
				"Predicted peak 886 (411 to 1000), measured 915 (+3.3 %); full (from 7.00 s, or " +
					"never), measured: never.",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Insights(&test.trial)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInsights_CPU says where the CPUs of the DUT, or of its host, were the limit.
func TestInsights_CPU(t *testing.T) {
	for _, test := range []struct {
		name string
		cpu  *CPU
		lost float64
		want string
	}{
		{
			"a hypervisor of the host", &CPU{Steal: 2, Idle: 8}, 0,
			"The DUT's CPUs lost 20 % of the time to a hypervisor, which affects " +
				"rates and times.",
		},
		{"not read", nil, 0, ""},
		{"idle", &CPU{SoftIRQ: 5, Idle: 5}, 0.01, ""},
		{
			"saturated", &CPU{User: 1, SoftIRQ: 8, System: 1}, 0,
			"The DUT's CPUs were busy 100 % of the time, 80 % of it in softirq, which affects " +
				"rates and times.",
		},
		{
			"a busy host", &CPU{Idle: 1}, 0.35,
			"The DUT's CPUs waited 35 % of the load's time for a CPU of the host, which " +
				"affects rates and times.",
		},
	} {
		trial := Trial{Verdict: Clean, CPU: test.cpu, LostCPU: test.lost}
		if test.cpu != nil {
			trial.Steal = test.cpu.StealShare()
		}
		if got := strings.Join(Insights(&trial), " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
