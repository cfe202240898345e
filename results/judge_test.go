package results

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func s(v float64) *float64 { return &v }

// failing returns a load of n, of which failed timed out.
func failing(unit string, n, failed int64) map[string]Entry {
	return one(entry(unit, n, failed))
}

// one returns the entries of a workload with one.
func one(e Entry) map[string]Entry { return map[string]Entry{"load": e} }

// entry returns an entry of n attempts, of which failed timed out.
func entry(unit string, n, failed int64) Entry {
	e := Entry{Attempts: Attempts{
		Unit: unit, Offered: n, Completed: new(n - failed), Failed: failed,
	}}
	if failed > 0 {
		e.Causes = map[string]int64{CauseTimeout: failed}
	}
	return e
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name    string
		trial   Trial
		verdict Verdict
		also    Verdict
		words   []string // in the sentence
		not     []string // absent from it
	}{
		{
			name: "table full",
			trial: Trial{
				Entries: failing("requests", 5000, 904),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 3616}, Peak: 4096, Max: 4096,
					LogLines: 10, SecondsToFull: s(1.2),
				},
			},
			verdict: TableFull,
			words: []string{
				"full at 4096 entries after 1.20 s", "refused 3616 packets", "retries included",
				"904 of 5000 requests failed (904 timed out)",
			},
			not: []string{"without a line", "no conntrack counter"},
		},
		{
			name: "table full, but retries completed all",
			trial: Trial{
				Entries: func() map[string]Entry {
					e := entry("requests", 5000, 0)
					e.Connect = Latency{Count: 5000, Max: 3012}
					return one(e)
				}(),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 40}, Peak: 4096, Max: 4096, LogLines: 1,
				},
			},
			verdict: TableFull,
			words: []string{
				"refused 40 packets",
				"all 5000 requests completed after retries (slowest connect 3012 ms)",
			},
		},
		{
			name: "table full and evicting: max 2000, buckets 65536",
			trial: Trial{
				Entries: failing(unitFlows, 10000, 4900),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 4900, EarlyDrop: 3100}, Peak: 2000,
					Max: 2000, LogLines: 10,
				},
			},
			verdict: TableFull, also: Evicting,
			words: []string{
				"refused 4900 packets",
				"; it evicted 3100 entries not yet ASSURED (early_drop): 4900 of",
			},
			not: []string{"SYN retries"},
		},
		{
			name: "evicting alone: max 2000, buckets 2048",
			trial: Trial{
				Entries: failing(unitFlows, 10000, 0),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{EarlyDrop: 8000}, Peak: 2000, Max: 2000,
				},
			},
			verdict: Evicting,
			words: []string{
				"made room by evicting 8000 entries", "without a drop",
				"all 10,000 flows completed",
			},
		},
		{
			name: "max lowered below the number of entries",
			trial: Trial{
				Entries: failing("connections", 2200, 30),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 120}, Peak: 481, Max: 100, FullAt: 100,
					LogLines: 4,
				},
			},
			verdict: TableFull,
			words:   []string{"The table was full at a max of 100, with up to 481 entries in it"},
			not:     []string{"100 entries"},
		},
		{
			name: "died",
			trial: Trial{
				Entries: failing(unitFlows, 10000, 10000), MemoryBytes: 155 << 20,
				Died: "Kernel panic - not syncing: System is deadlocked on memory",
				Conntrack: Conntrack{
					Tracked: true, Peak: 310_000, Max: 4_000_000, Buckets: 262_144,
					ObjectBytes: 320,
				},
			},
			verdict: DutDied,
			words: []string{
				"ran out of memory under the load and died (Kernel panic - not syncing: System",
				"held 310,000 of 4,000,000 entries at most (7.8 %)",
				"a full one takes 1.19 GiB of the DUT's 155 MiB",
			},
		},
		{
			name: "the peak fell between two samples",
			trial: Trial{
				Entries: failing("connections", 2200, 30),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 120}, Peak: 1990, Max: 2000,
					LogLines: 4,
				},
			},
			verdict: TableFull,
			words: []string{
				"because no entry was free", "highest count sampled was 1990 of 2000",
			},
		},
		{
			name: "dropped far from full",
			trial: Trial{
				Entries: failing("connections", 2200, 3),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 12}, Peak: 190, Max: 2000,
				},
			},
			verdict: TableFull,
			words:   []string{"an allocation may have failed"},
		},
		{
			name: "chain too long",
			trial: Trial{
				Entries: failing(unitFlows, 30000, 13000),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{InsertFailed: 13000, ChainTooLong: 13000},
					Peak: 17000, Max: 200000, Buckets: 512,
				},
			},
			verdict: ChainTooLong,
			words: []string{
				"refused 13,000 inserts (chain_toolong)", "17,000 entries in 512 buckets",
				"8.5 % of max", "and the kernel logged nothing",
			},
		},
		{
			name: "a few drops beside many long chains",
			trial: Trial{
				Entries: failing(unitFlows, 30000, 13005),
				Conntrack: Conntrack{
					Tracked:  true,
					Counters: Counters{Drop: 5, InsertFailed: 13000, ChainTooLong: 13000},
					Peak:     17000, Max: 17000, Buckets: 512, LogLines: 5,
				},
			},
			verdict: ChainTooLong, also: TableFull,
			words: []string{"5 packets were refused at max (drop)"},
		},
		{
			name: "a lost clash counts as drop too: not table-full",
			trial: Trial{
				Entries: failing("requests", 1000, 3),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 3, InsertFailed: 3}, Peak: 40,
					Max: 65536,
				},
			},
			verdict: Clash,
			words: []string{
				"3 packets were dropped after losing the race for a tuple (insert_failed)",
				"held 40 of 65,536 entries",
			},
		},
		{
			name: "resolved clash",
			trial: Trial{
				Entries: failing("requests", 1000, 0),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{ClashResolve: 1}, Peak: 40, Max: 65536,
				},
			},
			verdict: Clean,
			words: []string{
				"All 1000 requests completed",
				"1 race for a tuple was resolved without a loss (clash_resolve)",
			},
			not: []string{"after retries"},
		},
		{
			name: "clashes at a full table",
			trial: Trial{
				Entries: failing("requests", 1000, 100),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 103, InsertFailed: 3}, Peak: 400,
					Max: 400, LogLines: 1,
				},
			},
			verdict: TableFull, also: Clash,
			words: []string{"about 100 packets"},
		},
		{
			name: "closed port",
			trial: Trial{
				Entries: one(Entry{Attempts: Attempts{
					Unit: "connections", Offered: 100, Failed: 100,
					Causes: map[string]int64{CauseRefused: 100},
				}}),
				Conntrack: Conntrack{Tracked: true, Peak: 100, Max: 65536},
				Stack: &Stack{
					NetCounters: NetCounters{OutRsts: 100},
					DropReasons: map[string]int64{
						"NO_SOCKET": 100, "NOT_SPECIFIED": 900, "A": 1, "B": 2,
					},
				},
			},
			verdict: NotConntrack,
			words: []string{
				"All 100 connections failed (100 refused)",
				"connection tracking refused and evicted nothing",
				"100 resets sent by the DUT (OutRsts)",
				"the kernel's reasons for what it dropped: 100 NO_SOCKET and 2 B.",
			},
		},
		{
			name: "full listen backlog",
			trial: Trial{
				Entries:   failing("connections", 1000, 300),
				Conntrack: Conntrack{Tracked: true, Peak: 1000, Max: 65536},
				Stack: &Stack{
					NetCounters: NetCounters{ListenOverflows: 812, ListenDrops: 812, OutRsts: 4},
				},
			},
			verdict: NotConntrack,
			words:   []string{"812 listen queue overflows (ListenOverflows)"},
			not:     []string{"OutRsts"},
		},
		{
			name: "more failures than conntrack can be behind",
			trial: Trial{
				Entries: failing("requests", 5000, 900),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 100}, Peak: 4096, Max: 4096,
					LogLines: 10,
				},
			},
			verdict: TableFull, also: NotConntrack,
			words: []string{"conntrack's counters do not explain 800 of the failures"},
		},
		{
			name: "packets out of state",
			trial: Trial{
				Entries: failing("requests", 100, 7),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Invalid: 31}, Peak: 100, Max: 65536,
				},
			},
			verdict: NotConntrack,
			words:   []string{"31 packets were out of state (invalid)"},
		},
		{
			name: "clean",
			trial: Trial{
				Entries:   failing("requests", 5000, 0),
				Conntrack: Conntrack{Tracked: true, Peak: 5004, Max: 262144},
			},
			verdict: Clean,
			words: []string{
				"All 5000 requests completed", "5004 of 262,144 entries at most (1.9 %)",
			},
		},
		{
			name: "full to the last entry, nothing refused",
			trial: Trial{
				Entries:   failing("connections", 2000, 0),
				Conntrack: Conntrack{Tracked: true, Peak: 2000, Max: 2000, SecondsToFull: s(3)},
			},
			verdict: Clean,
			words:   []string{"full at 2000 entries after 3.00 s, and nothing refused or evicted"},
		},
		{
			name: "a stale log line",
			trial: Trial{
				Entries:   failing("requests", 10, 0),
				Conntrack: Conntrack{Tracked: true, Peak: 12, Max: 4096, LogLines: 1},
			},
			verdict: Clean,
			words: []string{
				"the log says in 1 line that a table was full, but drop did not rise",
			},
		},
		{
			name: "the bystander",
			trial: Trial{
				Entries:   failing("requests", 10, 0),
				Conntrack: Conntrack{Tracked: true, Peak: 12, Max: 4096},
				Probe:     &Probe{Sent: 100, Lost: 1},
			},
			verdict: Clean,
			words:   []string{"a bystander lost 1 of 100 probes."},
		},
		{
			name: "a mistake",
			trial: Trial{
				Entries:   failing("requests", 10, 0),
				Conntrack: Conntrack{Tracked: true, Peak: 12, Max: 4096},
				Refused: []Refusal{
					{Command: "iptables –t raw -F", Status: 2, Said: "Bad argument `–t'"},
				},
			},
			verdict: Clean,
			words:   []string{"; iptables –t raw -F was refused (Bad argument `–t')."},
		},
		{
			name: "invalid wins",
			trial: Trial{
				Invalid: []string{"the guest's console shows an oops"},
				Entries: failing("requests", 5000, 904),
				Conntrack: Conntrack{
					Tracked: true, Counters: Counters{Drop: 3616}, Peak: 4096, Max: 4096,
				},
			},
			verdict: Invalid,
			words:   []string{"Not measured validly: the guest's console shows an oops."},
		},
		{
			name:    "nothing offered",
			trial:   Trial{Conntrack: Conntrack{Tracked: true, Max: 4096}},
			verdict: Invalid,
			words:   []string{"no load was offered"},
		},
		{
			name: "figures that do not add up",
			trial: Trial{
				Entries: one(Entry{Attempts: Attempts{
					Offered: 100, Completed: new(int64(90)), Failed: 8,
					Causes: map[string]int64{CauseTimeout: 8},
				}}),
			},
			verdict: Invalid,
			words:   []string{"100 offered, 90 completed, 8 failed"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			trial := test.trial
			Judge(&trial)
			first := trial.Sentence
			Judge(&trial)
			if trial.Sentence != first {
				t.Errorf("judged again: %q, first %q", trial.Sentence, first)
			}
			if trial.Verdict != test.verdict || trial.Also != test.also {
				t.Errorf("got %q also %q, want %q also %q", trial.Verdict, trial.Also, test.verdict,
					test.also)
			}
			for _, w := range test.words {
				if !strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is not in: %s", w, trial.Sentence)
				}
			}
			for _, w := range test.not {
				if strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is in: %s", w, trial.Sentence)
				}
			}
			if !strings.HasSuffix(trial.Sentence, ".") || strings.Count(trial.Sentence, "..") > 0 {
				t.Errorf("no sentence: %s", trial.Sentence)
			}
		})
	}
}

// TestAccountingBalances: whatever the figures, the accounts balance and Judge gives a verdict with
// a sentence.
func TestAccountingBalances(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{CauseTimeout, causeReset, CauseRefused, causeEPERM, "other"}
	small := func() int64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return r.Int64N(1000)
	}
	for range 20000 {
		trial := Trial{Entries: map[string]Entry{}}
		var offered, ended, failed int64
		for _, name := range []string{"a", "b", "c"}[:1+r.IntN(3)] {
			e := Entry{Attempts: Attempts{Offered: small(), Causes: map[string]int64{}}}
			if r.IntN(3) == 0 {
				e.Role = Hostile
			}
			if r.IntN(2) == 0 {
				e.Completed = new(small())
			} else {
				e.Sent = new(small())
			}
			for _, n := range names {
				e.Causes[n] = small()
				e.Failed += e.Causes[n]
			}
			if r.IntN(2) == 0 {
				e.Offered = e.Done() + e.Failed
			}
			if e.Role != Hostile {
				failed += e.Failed
			}
			offered, ended = offered+e.Offered, ended+e.Done()+e.Failed
			trial.Entries[name] = e
		}
		trial.Conntrack = Conntrack{
			Tracked: r.IntN(2) == 0, Peak: small(), Max: small(), Buckets: small(),
			LogLines: small(),
			Counters: Counters{
				Drop: small(), EarlyDrop: small(), InsertFailed: small(), ChainTooLong: small(),
				ClashResolve: small(), Invalid: small(),
			},
		}
		Judge(&trial)
		a := trial.Accounting
		if a.Failed != failed {
			t.Fatalf("%d failed of entries that are not hostile: %+v", failed, a)
		}
		if offered != ended && trial.Verdict != Invalid {
			t.Fatalf("offered %d, ended %d: %s", offered, ended, trial.Sentence)
		}
		if a.Failed != a.Explained+a.StateLost+a.Unexplained || a.Explained < 0 ||
			a.Unexplained < 0 {
			t.Fatalf("failed does not balance: %+v", a)
		}
		if a.Explained > a.Refused+a.Evicted {
			t.Fatalf("more explained than the kernel counted: %+v", a)
		}
		if trial.Sentence == "" || (trial.Verdict == Invalid) != (len(trial.Invalid) > 0) {
			t.Fatalf("%+v", trial)
		}
		if trial.Verdict == Clean &&
			(a.Failed > 0 || a.Refused > 0 || trial.Conntrack.EarlyDrop > 0) {
			t.Fatalf("clean: %+v", trial)
		}
	}
}
