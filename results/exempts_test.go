package results

import (
	"strings"
	"testing"
)

// notrackCount returns the rule that takes a load out of tracking, with its counts.
func notrackCount(packets int64) []RuleCount {
	return []RuleCount{{
		Family: "ip", Table: "raw", Chain: "PREROUTING", Text: "-A PREROUTING -j CT --notrack",
		Effect: Untracks, After: packets,
	}}
}

// TestExemption: what the rules counted tells whether they exempt the load, and not their text.
func TestExemption(t *testing.T) {
	load := failing("requests", 100, 0)
	on, off := &Tracking{IPv4: "yes", IPv6: "no"}, &Tracking{IPv4: "no", IPv6: "no"}
	uncounted := notrackCount(0)
	uncounted[0].Uncounted = true
	held := Conntrack{Tracked: true, Peak: 100, Max: 4096}
	for name, test := range map[string]struct {
		trial   Trial
		exempts bool
		words   string
	}{
		"nothing needs tracking": {
			Trial{Tracking: off, Rules: notrackCount(240)}, true,
			"no rule of the DUT needs connection tracking",
		},
		"the load": {
			Trial{Tracking: on, Rules: notrackCount(600)}, true, "took out 600 packets",
		},
		"other traffic": {
			Trial{Tracking: on, Rules: notrackCount(7), Conntrack: held}, false,
			"held 100 of 4096 entries",
		},
		"one direction": {
			Trial{Tracking: on, Rules: notrackCount(300), Conntrack: held}, false,
			"check that both directions are exempt",
		},
		"a rule that does not count": {
			Trial{
				Tracking: on, Rules: uncounted,
				Conntrack: Conntrack{Tracked: true, Peak: 2, Max: 4096},
			},
			true, "though it does not count them",
		},
		"a rule for others that does not count": {
			Trial{Tracking: on, Rules: uncounted, Conntrack: held}, false,
			"held 100 of 4096 entries",
		},
		"tracked, but never seen": {
			Trial{Tracking: on}, false, "although the kernel tracks connections",
		},
		"a run of an older build": {Trial{}, false, "no sample found an entry"},
	} {
		test.trial.Entries = load
		Judge(&test.trial)
		if test.trial.Verdict != Clean || !strings.Contains(test.trial.Sentence, test.words) {
			t.Errorf("%s: %s: %s", name, test.trial.Verdict, test.trial.Sentence)
		}
		s := Scenario{Trials: []Trial{test.trial}}
		if got := s.exempts(); got != test.exempts {
			t.Errorf("%s: exempts is %v", name, got)
		}
	}
}

// TestRules6: IPv6 rules count in every statement about rules.
func TestRules6(t *testing.T) {
	const notrack = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n"
	first := &Scenario{Name: "first"}
	other := &Scenario{
		Name: "other", Configuration: Configuration{Rules6: notrack},
		Trials: []Trial{{Verdict: Clean, Rules: notrackCount(10), Tracking: &Tracking{}}},
	}
	if got := strings.Join(changes(first, other), ", "); got != "other rules" {
		t.Errorf("changes: %s", got)
	}
	four := &Scenario{Name: "four", Configuration: Configuration{Rules: notrack}}
	if got := strings.Join(changes(four, other), ", "); got != "other rules" {
		t.Errorf("the same rules in the other family: %s", got)
	}
	if got := costs(first, other); !strings.Contains(got, "NAT cannot translate it") {
		t.Errorf("costs: %s", got)
	}
	// Loopback alone is exempt.
	trial := []Trial{{Conntrack: Conntrack{Max: 8192, Buckets: 4096}}}
	lo := Configuration{Rules: strings.Replace(notrack, "-p tcp --dport 80", "-i lo", 1)}
	larger := &Scenario{Name: "larger", Configuration: lo, Trials: trial}
	if got := costs(first, larger); !strings.Contains(got, "of kernel memory") {
		t.Errorf("costs: %s", got)
	}
}
