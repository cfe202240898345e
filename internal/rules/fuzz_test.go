package rules_test

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/rules"
)

func FuzzIptables(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 1.1.1.1,2.2.2.2 -j ACCEPT\nCOMMIT\n")
	f.Add("*raw\n[1:2] -A PREROUTING -j CT --notrack\n-D x\n-F x\n-P x DROP\n")
	f.Add("* \n:\n[ \n-A\n\"\\")
	f.Add("*raw\n-I x 9 ! -p tcp --dport ! 80 -jNOTRACK\n-R x 1 -c 1 2 -j y\nCOMMIT")
	f.Fuzz(func(t *testing.T, text string) {
		for _, family := range []string{rules.IPv4, rules.IPv6} {
			read := rules.Iptables(family, text)
			check(t, text, read)
			// A text that is written out again is read as the same.
			var again strings.Builder
			for _, table := range read.Tables {
				again.WriteString(table.String())
				for _, line := range table.Lines {
					_ = line.Retarget("-j DROP")
				}
			}
			second := rules.Iptables(family, again.String())
			web := rules.Flow{Family: family, Protocol: "tcp", Port: 80}
			if len(second.Tables) != len(read.Tables) ||
				second.Fate(web).Untracked != read.Fate(web).Untracked ||
				(second.Tracks(family) != nil) != (read.Tracks(family) != nil) {
				t.Errorf("%q is read in another way as %q", text, again.String())
			}
		}
		_ = rules.Changed(text, rules.Bare(text))
		_ = rules.Existing(rules.IPv4, text, text)
	})
}

func FuzzNFT(f *testing.F) {
	f.Add("table inet t { chain c { ct state new accept; } }")
	f.Add("add table ip a; delete table ip a\nflush ruleset\n# x\n\"")
	f.Add("define a = { 1, $a }\ntable ip6 t { set s { elements = { 1, 2 }; }; chain c { " +
		"type filter hook output priority raw + 5; tcp dport { $a } notrack; jump { drop; }; }; }")
	f.Add("${\n}!0")
	f.Add("${x}:1 fe80::1:2 \\\n}{;")
	f.Add("table ip t { chain c { type filter hook input priority 0; iifname . tcp dport vmap { " +
		"lo " +
		": accept, eth0 : goto c }; ct state vmap { new : jump d, }; }; chain d { jump c; }; }")
	f.Add("insert rule t c position 3 counter packets 1 bytes 2 drop\ndelete chain t c\n" +
		"add element t s { 1 : 2 }")
	f.Fuzz(func(t *testing.T, script string) {
		read := rules.NFT(script)
		check(t, script, read)
		_ = rules.ByName(script)
		_ = read.Undefined()
	})
}

// check holds a reading to what is true of every text: places are within it, tables and chains come
// once, figures are no less than zero.
func check(t *testing.T, text string, read rules.Ruleset) {
	t.Helper()
	lines := strings.Split(text, "\n")
	within := func(what string, at rules.Position) {
		if at.Line < 1 || at.Line > len(lines) || at.Column < 1 ||
			at.Column > len(lines[at.Line-1])+1 {
			t.Errorf("%s at %+v is outside of %q", what, at, text)
		}
	}
	for _, p := range read.Problems {
		within(p.Text, p.At)
	}
	seen := map[string]bool{}
	for _, table := range read.Tables {
		within("table", table.At)
		for _, o := range table.Objects {
			within("object", o.At)
		}
		for _, c := range table.Chains {
			within("chain", c.At)
			n, _ := c.Loaded()
			if key := table.ID() + " " + c.Name; n < 0 || seen[key] && len(read.Problems) == 0 {
				t.Errorf("chain %q twice, or with %d rules", key, n)
			} else {
				seen[key] = true
			}
			for _, r := range c.Rules {
				within("rule", r.At)
				for _, n := range r.Names {
					within("name", n.At)
				}
				if r.Count.Packets < 0 || r.Count.Bytes < 0 {
					t.Errorf("%+v", r.Count)
				}
			}
		}
	}
	for _, flow := range []rules.Flow{
		{Family: rules.IPv4, Protocol: "tcp", Port: 80},
		{Family: rules.IPv6, Protocol: "udp", Local: true},
	} {
		fate := read.Fate(flow)
		if (fate.Untracked > rules.Never) != (fate.Exempting.Table != nil) ||
			(fate.Refused > rules.Never) != (fate.Refusing.Table != nil) {
			t.Errorf("%+v has the fate %+v without a cause: %q", flow, fate, text)
		}
	}
}
