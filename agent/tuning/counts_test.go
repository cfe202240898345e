package tuning

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

func TestRuleCounts(t *testing.T) {
	before := State{
		Rules: `# Generated
*filter
:INPUT DROP [5:500]
:mine - [0:0]
[10:1000] -A INPUT -p tcp -m tcp --dport 80 -j ACCEPT
[1:60] -A INPUT -j DROP
[1:60] -A INPUT -j DROP
COMMIT
`,
		NFT: "table inet f {\n\tchain in {\n\t\ttype filter hook input priority filter; policy " +
			"accept;\n\t\tct state invalid counter packets 7 bytes 70 drop\n" +
			"\t\ttcp dport 22 accept\n\t}\n}\n",
	}
	after := State{
		Rules: `*filter
:INPUT DROP [6:560]
:mine - [0:0]
[10:1000] -A INPUT -p tcp -m tcp --dport 80 -j ACCEPT
[1:60] -A INPUT -j DROP
[4:240] -A INPUT -j DROP
[2:120] -A mine -j LOG --log-prefix "no DROP"
COMMIT
`,
		Rules6: "*filter\n:INPUT ACCEPT [3:300]\nCOMMIT\n",
		NFT: "table inet f {\n\tchain in {\n\t\ttype filter hook input priority filter; " +
			"policy accept;\n\t\tct state invalid counter packets 107 bytes 1070 drop\n" +
			"\t\ttcp dport 22 accept\n\t}\n}\n",
	}
	want := []results.RuleCount{
		{Family: "inet", Table: "f", Chain: "in", Text: "ct state invalid drop",
			Effect: results.Drops, About: results.OutOfState, Before: 7, After: 107},
		{Family: "ip", Table: "filter", Chain: "INPUT", Text: "-A INPUT -j DROP",
			Effect: results.Drops, Before: 1, After: 4},
		{Family: "ip6", Table: "filter", Chain: "INPUT", Text: "policy ACCEPT", After: 3},
		{Family: "ip", Table: "filter", Chain: "mine",
			Text: `-A mine -j LOG --log-prefix "no DROP"`, After: 2},
		{Family: "ip", Table: "filter", Chain: "INPUT", Text: "policy DROP",
			Effect: results.Drops, Before: 5, After: 6},
	}
	if diff := cmp.Diff(want, RuleCounts(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := RuleCounts(after, after); len(got) != 0 {
		t.Errorf("nothing happened, and yet %+v", got)
	}
	// Reloaded: counters that fell began at zero.
	if got := RuleCounts(State{Rules: after.Rules}, State{Rules: before.Rules}); len(got) != 2 ||
		got[0].Packets() != 5 || got[0].Before != 0 {
		t.Errorf("%+v", got)
	}
}

// TestRuleCounts_Policies: nft lists no counters of policies; the kernel's own list has them, or a
// policy that drops is named as uncounted.
func TestRuleCounts_Policies(t *testing.T) {
	const text = "table inet f {\n\tchain in {\n\t\ttype filter hook input priority 0; " +
		"policy drop;\n\t\tudp dport 53 notrack\n\t}\n}\n"
	policy := func(packets int64) []policy {
		return []policy{{Family: "inet", Table: "f", Chain: "in", Packets: packets, Counted: true}}
	}
	notrack := results.RuleCount{Family: "inet", Table: "f", Chain: "in",
		Text: "udp dport 53 notrack", Effect: results.Untracks, Uncounted: true}
	drop := results.RuleCount{Family: "inet", Table: "f", Chain: "in", Text: "policy DROP",
		Effect: results.Drops}
	counted, silent := drop, drop
	counted.Before, counted.After = 2, 9
	silent.Uncounted = true
	for name, tc := range map[string]struct {
		before, after State
		want          []results.RuleCount
	}{
		"counted": {
			State{NFT: text, Policies: policy(2)}, State{NFT: text, Policies: policy(9)},
			[]results.RuleCount{counted, notrack},
		},
		"uncounted": {State{NFT: text}, State{NFT: text}, []results.RuleCount{notrack, silent}},
	} {
		if diff := cmp.Diff(tc.want, RuleCounts(tc.before, tc.after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNewerRule(t *testing.T) {
	const rule = "-A PREROUTING -d 10.0.0.2/32 -p udp -m udp --dport 514 -j DNAT " +
		"--to-destination 10.0.0.9"
	state := State{Rules: "*nat\n:PREROUTING ACCEPT [4:4]\n[0:0] " + rule + "\nCOMMIT\n"}
	for name, tc := range map[string]struct {
		flow results.FlowCount
		want string
	}{
		"older":        {results.FlowCount{Protocol: "udp", Destination: "10.0.0.2:514"}, rule},
		"another host": {results.FlowCount{Protocol: "udp", Destination: "10.0.0.3:514"}, ""},
		"another port": {results.FlowCount{Protocol: "udp", Destination: "10.0.0.2:515"}, ""},
		"it follows it": {
			results.FlowCount{
				Protocol: "udp", Destination: "10.0.0.2:514", Leads: "10.0.0.9:514",
			}, "",
		},
	} {
		if got := state.NewerRule(State{}, tc.flow); got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	older := results.FlowCount{Protocol: "udp", Destination: "10.0.0.2:514"}
	if got := state.NewerRule(state, older); got != "" {
		t.Errorf("a rule that was there before: %q", got)
	}
	if got := NAT(State{}, state); got == nil || got.Lookups != 4 {
		t.Errorf("%+v", got)
	}
	if got := NAT(State{}, State{Rules: "*filter\nCOMMIT\n"}); got != nil {
		t.Errorf("without NAT: %+v", got)
	}
}

func FuzzRuleCounters(f *testing.F) {
	f.Add("*filter\n:INPUT DROP [6:560]\n[4:240] -A INPUT -j DROP\nCOMMIT\n")
	f.Add("table ip x {\nchain y {\ncounter packets 1 bytes 2 drop\n}\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, hit := range RuleCounts(State{}, State{Rules: text, NFT: text}) {
			if hit.Packets() <= 0 && !hit.Uncounted {
				t.Errorf("%+v", hit)
			}
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 6, 0, 1, 0, 'f', 0, 0, 0, 12, 0, 8, 0, 8, 0, 2, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := parsePolicy(data)
		if err == nil && (p.Packets != 0 || p.Bytes != 0) && !p.Counted {
			t.Errorf("%+v", p)
		}
	})
}
