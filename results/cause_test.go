package results

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// dropping returns a rule of a table filter that dropped packets.
func dropping(text string, about RuleMatch, packets int64) RuleCount {
	return RuleCount{
		Family: "ip", Table: "filter", Chain: "FORWARD", Text: text, Effect: Drops, About: about,
		After: packets,
	}
}

func translating(effect RuleEffect, text string, packets int64) RuleCount {
	return RuleCount{
		Family: "ip", Table: "nat", Chain: "POSTROUTING", Text: text, Effect: effect,
		After: packets,
	}
}

const (
	midStream  = "-A FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP"
	invalid    = "-A FORWARD -m conntrack --ctstate INVALID -j DROP"
	masquerade = "-A POSTROUTING -o eth1 -j MASQUERADE"
)

func quiet(peak int64) Conntrack { return Conntrack{Tracked: true, Peak: peak, Max: 65536} }

// TestJudge_Causes has measured figures of trials whose cause is in the state of connection
// tracking, or in rules, while drop, early_drop and chain_toolong did not rise.
func TestJudge_Causes(t *testing.T) {
	pool := []Silence{{Entry: "pool", Protocol: "tcp", Seconds: 8}}
	short := map[string]int64{"tcp_timeout_established": 4, "udp_timeout": 30}
	for name, test := range map[string]struct {
		trial   Trial
		verdict Verdict
		also    Verdict
		words   []string
		not     []string
	}{
		"idle for longer than the timeout": {
			trial: Trial{
				Entries: failing("connections", 50, 50), Conntrack: quiet(162), Silences: pool,
				Timeouts: short, Rules: []RuleCount{dropping(midStream, MidStream, 299)},
				Stack: &Stack{RulesDropped: 299},
			},
			verdict: StateLost,
			words: []string{
				"All 50 connections failed", midStream,
				"dropped 299 packets of connections that had no entry any more",
				"pool is silent for 8.00 s", "4 s (tcp_timeout_established)",
			},
			not: []string{"not by conntrack"},
		},
		"idle, and the rule names what is invalid": {
			trial: Trial{
				Entries: failing("connections", 50, 50), Conntrack: quiet(60), Silences: pool,
				Timeouts: short, Rules: []RuleCount{dropping(invalid, OutOfState, 120)},
			},
			verdict: StateLost,
			words:   []string{invalid, "tcp_timeout_established"},
		},
		"removed by an action": {
			trial: Trial{
				Entries: failing("connections", 50, 20), Conntrack: quiet(60),
				Actions: []Action{{Name: "failover", Kind: "flush", Begun: s(3)}},
				Rules:   []RuleCount{dropping(midStream, MidStream, 80)},
			},
			verdict: StateLost,
			words:   []string{"failover had removed their entries"},
		},
		"the entry of NAT had gone before the answer": {
			trial: Trial{
				Entries: failing(unitFlows, 100, 40), Conntrack: quiet(100),
				Rules: []RuleCount{translating(Translates, masquerade, 100)},
				Stack: &Stack{NetCounters: NetCounters{UDPNoPorts: 40}},
			},
			verdict: StateLost,
			words:   []string{"40 answers of NAT found no entry any more"},
		},
		"the entry of NAT had gone, and the DUT resets": {
			trial: Trial{
				Entries: failing("connections", 50, 50), Conntrack: quiet(60), Silences: pool,
				Timeouts: short, Rules: []RuleCount{translating(Translates, masquerade, 50)},
				Stack: &Stack{
					NetCounters: NetCounters{OutRsts: 50},
					DropReasons: map[string]int64{"NO_SOCKET": 50},
				},
			},
			verdict: StateLost,
			words:   []string{"50 answers of NAT", "pool is silent"},
		},
		"answers take another way": {
			trial: Trial{
				Entries: failing("requests", 60, 60),
				Conntrack: func() Conntrack {
					c := quiet(60)
					c.Invalid = 640
					return c
				}(),
				Rules: []RuleCount{
					dropping(invalid, OutOfState, 640),
					{
						Table: "raw", Chain: "PREROUTING", Effect: Untracks, After: 220,
						Text: "-A PREROUTING -i eth1 -j CT --notrack",
					},
				},
			},
			verdict: NotConntrack,
			words: []string{
				invalid, "dropped 640 packets that tracking called invalid",
				"CT --notrack", "took 220 packets out of tracking",
			},
			not: []string{"not by conntrack", "may have dropped"},
		},
		"entries older than the rule": {
			trial: Trial{
				Entries: failing(unitFlows, 60, 60), Conntrack: quiet(60),
				Actions: []Action{{
					Name: "service", Kind: "rules-load", Begun: s(5), LaterFailures: 30,
				}},
				Contents: &Contents{Entries: 60, Flows: []FlowCount{
					{Protocol: "udp", State: "REPLIED", Destination: "10.77.0.1:5301", Entries: 50},
					{Protocol: "udp", State: "UNREPLIED", Destination: "10.77.0.1:514", Entries: 10,
						NewerRule: "-A PREROUTING -p udp --dport 514 -j REDIRECT --to-ports 5301"},
				}},
				Stack: &Stack{NetCounters: NetCounters{UDPNoPorts: 60}},
			},
			verdict: StateLost, also: NotConntrack,
			words: []string{
				"10 entries to 10.77.0.1:514 (udp UNREPLIED) are older than the rule -A PREROUTING",
				"they never met", "all but 30 of the failures", "60 UDP datagrams to a closed port",
			},
		},
		"entries older than the rule, until a fix removed them": {
			trial: Trial{
				Entries: failing(unitFlows, 60, 40), Conntrack: quiet(60),
				Actions: []Action{
					{Name: "service", Kind: "rules-load", Begun: s(5), LaterFailures: 10},
					{
						Name: "conntrack -D", Kind: "delete", Fix: true, Begun: s(7),
						Effects: []Effect{{EffectRemoved, "0", "10"}},
					},
				},
			},
			verdict: StateLost, also: NotConntrack,
			words: []string{
				"10 attempts failed after service and until conntrack -D removed 10 entries",
				"all but 30 of the failures",
			},
		},
		"a fix that removed entries and cured nothing": {
			trial: Trial{
				Entries: failing(unitFlows, 60, 40), Conntrack: quiet(60),
				Actions: []Action{
					{Name: "service", Kind: "rules-load", Begun: s(5), LaterFailures: 30},
					{
						Name: "conntrack -D", Kind: "delete", Fix: true, Begun: s(7),
						LaterFailures: 20, Effects: []Effect{{EffectRemoved, "0", "10"}},
					},
				},
			},
			verdict: NotConntrack,
			words:   []string{"refused and evicted nothing"},
		},
		"flows that joined the entries of earlier ones": {
			trial: Trial{
				Entries: failing(unitFlows, 101, 50), Conntrack: quiet(51), NAT: &NAT{Lookups: 51},
				Rules: []RuleCount{translating(Redirects, "-A PREROUTING -p udp -j REDIRECT", 50)},
				Contents: &Contents{Flows: []FlowCount{{
					Protocol: "udp", State: "UNREPLIED", Destination: "10.77.0.1:53",
					Leads: "10.77.0.1:5301", Entries: 50,
				}}},
			},
			verdict: StateLost,
			words: []string{
				"50 attempts used entries of earlier flows and asked no rule of NAT",
				"50 entries to 10.77.0.1:53 (udp) lead to 10.77.0.1:5301",
			},
		},
		"flows that asked the rules and failed as well": {
			trial: Trial{
				Entries: failing(unitFlows, 100, 100), Conntrack: quiet(51), NAT: &NAT{Lookups: 51},
				Rules: []RuleCount{translating(Redirects, "-A PREROUTING -p udp -j REDIRECT", 50)},
				Contents: &Contents{Flows: []FlowCount{{
					Protocol: "udp", State: "UNREPLIED", Destination: "10.77.0.1:53",
					Leads: "10.77.0.1:5301", Entries: 50,
				}}},
			},
			verdict: NotConntrack,
		},
		"no source port is left": {
			trial: Trial{
				Entries: failing("connections", 150, 50),
				Conntrack: Conntrack{
					Tracked: true, Peak: 100, Max: 2048,
					Counters: Counters{Drop: 150, InsertFailed: 150, Found: 15518},
				},
				Rules: []RuleCount{
					translating(Translates, "-j SNAT --to-source 10.78.0.1:1-100", 250),
				},
				Contents: &Contents{Flows: []FlowCount{{
					Protocol: "tcp", State: "TIME_WAIT", Destination: "10.78.0.2:80",
					From: "10.78.0.1", Entries: 100,
				}}},
			},
			verdict: NATExhausted,
			words: []string{
				"150 packets found no free source port for NAT", "15,518 ports were tried",
				"100 in use towards tcp 10.78.0.2:80", "50 of 150 connections failed",
			},
			not: []string{"race"},
		},
		"a race for a source port": {
			trial: Trial{
				Entries: failing("connections", 150, 2),
				Conntrack: Conntrack{
					Tracked: true, Peak: 148, Max: 2048,
					Counters: Counters{Drop: 2, InsertFailed: 2, Found: 3},
				},
				Rules: []RuleCount{translating(Translates, masquerade, 150)},
			},
			verdict: Clash,
			words:   []string{"2 packets were dropped after losing the race for a tuple"},
		},
		"a resolved race beside evictions": {
			trial: Trial{
				Entries: failing("connections", 40000, 0),
				Conntrack: Conntrack{
					Tracked: true, Peak: 4096, Max: 4096,
					Counters: Counters{EarlyDrop: 28545, ClashResolve: 1},
				},
			},
			verdict: Evicting,
			words: []string{
				"evicting 28,545 entries", "1 race for a tuple was resolved without a loss",
			},
		},
		"a rule beside a full table": {
			trial: Trial{
				Entries: failing("connections", 500, 300),
				Conntrack: Conntrack{
					Tracked: true, Peak: 200, Max: 200, LogLines: 10,
					Counters: Counters{Drop: 620},
				},
				Rules: []RuleCount{dropping("-A INPUT -p tcp --dport 81 -j DROP", "", 195)},
			},
			verdict: TableFull,
			words: []string{
				"refused 620 packets", "-A INPUT -p tcp --dport 81 -j DROP", "dropped 195 packets",
			},
		},
		"a policy without a counter": {
			trial: Trial{
				Entries: failing("connections", 10, 10), Conntrack: quiet(0),
				Rules: []RuleCount{{Family: "inet", Table: "f", Chain: "in", Text: "policy DROP",
					Effect: Drops, Uncounted: true}},
			},
			verdict: NotConntrack,
			words:   []string{`"policy DROP" (table f, chain in) has no counter`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trial := test.trial
			Judge(&trial)
			if trial.Verdict != test.verdict || trial.Also != test.also {
				t.Errorf("got %q also %q, want %q also %q", trial.Verdict, trial.Also, test.verdict,
					test.also)
			}
			for _, w := range test.words {
				if !strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is not in: %s", w, trial.Sentence)
				}
			}
			for _, w := range append(test.not, "not by conntrack") {
				if strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is in: %s", w, trial.Sentence)
				}
			}
			if a := trial.Accounting; a.Failed != a.Explained+a.StateLost+a.Unexplained {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestJudge_Meanings: whatever a kernel counts where, the outcome of one course of events is one.
func TestJudge_Meanings(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	some := func() int64 { return max(0, random.Int64N(200)-100) }
	for range 5000 {
		events := refusals{full: some(), chain: some(), clash: some()}
		early := some()
		var sentences []string
		for _, m := range []CounterMeaning{
			earlierMeaning, {}, {ClashInDrop: true}, {ChainInInsertFailed: true},
			{ClashInDrop: true, ChainInInsertFailed: true, ChainInDrop: true},
		} {
			c := Counters{
				Drop: events.full, ChainTooLong: events.chain, InsertFailed: events.clash,
				EarlyDrop: early,
			}
			if m.ClashInDrop {
				c.Drop += events.clash
			}
			if m.ChainInInsertFailed {
				c.InsertFailed += events.chain
			}
			if m.ChainInDrop {
				c.Drop += events.chain
			}
			if got := refusalsOf(c, &m); got != events {
				t.Fatalf("%+v by %+v: %+v, truly %+v", c, m, got, events)
			}
			trial := Trial{
				Entries: failing(unitFlows, 1000, 150), Meaning: &m,
				Conntrack: Conntrack{Tracked: true, Peak: 900, Max: 1000, Counters: c},
			}
			Judge(&trial)
			what := fmt.Sprint(trial.Verdict, trial.Also, trial.Accounting)
			sentences = append(sentences, what)
			if what != sentences[0] {
				t.Fatalf("%+v: %s, and %s", m, what, sentences[0])
			}
		}
	}
}

// TestRefusals_UnknownMeaning: figures that a released kernel cannot give are those of a later one.
func TestRefusals_UnknownMeaning(t *testing.T) {
	for _, test := range []struct {
		counters Counters
		want     refusals
	}{
		{Counters{Drop: 103, InsertFailed: 3}, refusals{full: 100, clash: 3}},
		{Counters{InsertFailed: 100}, refusals{clash: 100}},
		{Counters{ChainTooLong: 100}, refusals{chain: 100}},
		{Counters{InsertFailed: 100, ChainTooLong: 100}, refusals{chain: 100}},
	} {
		if got := refusalsOf(test.counters, nil); got != test.want {
			t.Errorf("%+v: %+v, want %+v", test.counters, got, test.want)
		}
	}
}

func TestMeaningOf(t *testing.T) {
	old := Counters{Drop: 1, InsertFailed: 1}
	for name, test := range map[string]struct {
		race   Counters
		chains *Counters
		want   CounterMeaning
		known  bool
	}{
		"6.1": {
			old, &Counters{InsertFailed: 20, ChainTooLong: 20},
			CounterMeaning{ClashInDrop: true, ChainInInsertFailed: true, ChainMeasured: true}, true,
		},
		"6.18, in a namespace": {old, nil, earlierMeaning, true},
		"the next": {
			Counters{InsertFailed: 1}, &Counters{ChainTooLong: 20},
			CounterMeaning{ChainMeasured: true}, true,
		},
		"one of the changes alone": {
			old, &Counters{ChainTooLong: 20},
			CounterMeaning{ClashInDrop: true, ChainMeasured: true}, true,
		},
		"nothing is tracked": {Counters{}, nil, CounterMeaning{}, false},
	} {
		got, known := MeaningOf(test.race, test.chains)
		if got != test.want || known != test.known {
			t.Errorf("%s: %+v, %v", name, got, known)
		}
	}
}

func TestCountLater(t *testing.T) {
	trial := Trial{
		Actions: []Action{{Begun: s(2)}, {Begun: s(5)}, {}},
		Entries: map[string]Entry{"web": {}, "attacker": {Role: Hostile}},
	}
	at := func(seconds float64, failed int64) Sample {
		return Sample{Seconds: seconds, Entries: map[string]Progress{
			"web": {Failed: failed}, "attacker": {Failed: 10 * failed},
		}}
	}
	samples := []Sample{at(0, 0), at(2.9, 4), at(4, 6), at(9, 11)}
	CountLater(&trial, samples, map[string]float64{"web": 1})
	if a := trial.Actions; a[0].LaterFailures != 7 || a[1].LaterFailures != 5 ||
		a[2].LaterFailures != 0 {
		t.Errorf("%+v", a)
	}
}
