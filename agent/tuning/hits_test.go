package tuning

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHits(t *testing.T) {
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
	want := []Hit{
		{Family: "inet", Table: "f", Chain: "in", Rule: "ct state invalid drop", Refuses: true,
			Packets: 100, Bytes: 1000},
		{Family: "ip", Table: "filter", Chain: "INPUT", Rule: "-A INPUT -j DROP", Refuses: true,
			Packets: 3, Bytes: 180},
		{Family: "ip6", Table: "filter", Chain: "INPUT", Rule: "policy ACCEPT", Packets: 3,
			Bytes: 300},
		{Family: "ip", Table: "filter", Chain: "mine",
			Rule: `-A mine -j LOG --log-prefix "no DROP"`, Packets: 2, Bytes: 120},
		{Family: "ip", Table: "filter", Chain: "INPUT", Rule: "policy DROP", Refuses: true,
			Packets: 1, Bytes: 60},
	}
	if diff := cmp.Diff(want, Hits(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Hits(after, after); len(got) != 0 {
		t.Errorf("nothing happened, and yet %+v", got)
	}
	// Reloaded: counters that fell began at zero.
	if got := Hits(State{Rules: after.Rules}, State{Rules: before.Rules}); len(got) != 2 ||
		got[0].Packets != 5 {
		t.Errorf("%+v", got)
	}
}

func FuzzRuleCounters(f *testing.F) {
	f.Add("*filter\n:INPUT DROP [6:560]\n[4:240] -A INPUT -j DROP\nCOMMIT\n")
	f.Add("table ip x {\nchain y {\ncounter packets 1 bytes 2 drop\n}\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, hit := range Hits(State{}, State{Rules: text, NFT: text}) {
			if hit.Packets <= 0 {
				t.Errorf("%+v", hit)
			}
		}
	})
}
