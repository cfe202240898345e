package rules_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/rules"
)

var update = flag.Bool("update", false, "write the golden files")

// described writes what a text was read as, a line each.
func described(s rules.Ruleset) string {
	var b strings.Builder
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "%d:%d problem: %s\n", p.At.Line, p.At.Column, p.Text)
	}
	for _, t := range s.Tables {
		fmt.Fprintf(&b, "%d:%d table %s\n", t.At.Line, t.At.Column, t.ID())
		for _, o := range t.Objects {
			fmt.Fprintf(&b, "%d:%d   %s %s%s\n",
				o.At.Line, o.At.Column, o.Kind, o.Name, mark(o.Tracks, " tracks"))
		}
		for _, c := range t.Chains {
			fmt.Fprintf(&b, "%d:%d   chain %s%s%s\n",
				c.At.Line, c.At.Column, c.Name, hook(c), count(c.Policy, c.Count))
			for _, r := range c.Rules {
				fmt.Fprintf(&b, "%d:%d     %s%s\n", r.At.Line, r.At.Column, r.Text, facts(r))
				for _, n := range r.Names {
					fmt.Fprintf(&b, "%d:%d       %s %s\n", n.At.Line, n.At.Column, n.Kind, n.Text)
				}
			}
		}
	}
	return b.String()
}

func mark(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

func hook(c *rules.Chain) string {
	if c.Hook == "" {
		return ""
	}
	return fmt.Sprintf(" at %s %d", c.Hook, c.Priority)
}

func count(policy string, c rules.Counter) string {
	text := mark(policy != "", " policy "+policy)
	if c.Known {
		text += fmt.Sprintf(" [%d:%d]", c.Packets, c.Bytes)
	}
	return text
}

func facts(r *rules.Rule) string {
	text := count("", r.Count) + mark(r.Tracks, " tracks") + mark(r.Notrack, " notrack") +
		mark(r.Partial, " partial") + mark(r.SYN, " syn") + mark(r.Always, " always") +
		mark(r.Verdict != "", " -> "+r.Verdict) + mark(r.Loads != 1, fmt.Sprintf(" x%d", r.Loads))
	for _, v := range []struct {
		name string
		rules.Values
	}{
		{"protocol", r.Protocols}, {"dport", r.Destinations}, {"sport", r.Sources}, {"in", r.In},
		{"out", r.Out}, {"state", r.States},
	} {
		if !v.Any() {
			text += fmt.Sprintf(" %s%s=%s%s", v.name, mark(v.Negated, "!"),
				strings.Join(v.List, ","), mark(v.Unknown, "?"))
		}
	}
	return text
}

// TestRealTexts reads texts as other programs write them: every position, name and counter is in a
// golden file.
func TestRealTexts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) < 8 {
		t.Fatalf("texts: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var read rules.Ruleset
		switch filepath.Ext(file) {
		case ".rules":
			read = rules.Iptables(rules.IPv4, string(data))
		case ".rules6":
			read = rules.Iptables(rules.IPv6, string(data))
		default:
			read = rules.NFT(string(data))
		}
		got, golden := described(read), filepath.Join("testdata/read", filepath.Base(file)+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// chain holds the facts about a chain that TestChains compares.
type chain struct {
	policy string
	rules  int
	exact  bool
}

func TestChains(t *testing.T) {
	text := `# a comment
*filter
:INPUT DROP [12:3456]
:mine - [0:0]
-A INPUT -m comment --comment "several words -s 1.1.1.1,2.2.2.2" -j ACCEPT
[3:180] -A INPUT -s 10.0.0.1,10.0.0.2/32 -d 10.1.0.0/16,10.2.0.0/16 -j ACCEPT
-I mine 1 -s gateway.example -j DROP
--append mine -j RETURN
-A FORWARD -p tcp --dport 1 -j DROP
-A FORWARD -p tcp --dport 2 -j DROP
-D FORWARD -p tcp --dport 1 -j DROP
-R FORWARD 1 -p tcp --dport 3 -j DROP
-A gone -j DROP
-X gone
COMMIT
*raw
-A PREROUTING -p tcp --dport 80 -j NOTRACK
-D PREROUTING -p tcp --dport 81 -j NOTRACK
-A OUTPUT -j CT --notrack
-F OUTPUT
-P OUTPUT ACCEPT
-N extra
-A extra -6 -j DROP
COMMIT`
	want := map[string]chain{
		"filter INPUT": {"DROP", 5, true}, "filter mine": {"-", 2, false},
		"filter FORWARD": {"", 1, true}, "raw PREROUTING": {"", 1, false},
		"raw OUTPUT": {"ACCEPT", 0, true}, "raw extra": {"-", 0, true},
	}
	got := map[string]chain{}
	read := rules.Iptables(rules.IPv4, text)
	for _, table := range read.Tables {
		for _, c := range table.Chains {
			n, exact := c.Loaded()
			got[table.Name+" "+c.Name] = chain{c.Policy, n, exact}
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(chain{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r := read.Table(rules.IPv4, "filter").Chain("FORWARD").Rules[0]
	if r.Destinations.List[0] != "3" {
		t.Errorf("the rule that is left is %q", r.Text)
	}
}

// TestTables has scripts that make tables and take them away.
func TestTables(t *testing.T) {
	for script, want := range map[string]string{
		"": "",
		"table inet filter {\n chain c { type filter hook input priority 0; }\n}": "inet filter",

		"add table nat\ntable ip6 nat {}":                                     "ip nat, ip6 nat",
		"table inet t\ndelete table inet t\ntable inet t {\n}\n":              "inet t",
		"add table netdev a; add table bridge b; delete table netdev a":       "bridge b",
		"table ip a {}\nflush ruleset\n# table ip b {}\ntable ip c {}":        "ip c",
		"table ip a {}\ntable ip6 b {}\nflush ruleset ip6":                    "ip a",
		"define t = x\ntable ip a { set s { type mark; }; }\ndestroy table a": "",
	} {
		var tables []string
		for _, table := range rules.NFT(script).Tables {
			tables = append(tables, table.ID())
		}
		if got := strings.Join(tables, ", "); got != want {
			t.Errorf("%q: %s, want %s", script, got, want)
		}
	}
}

// TestTracksAfterChanges asks about rules that a script has taken away again, and about texts that
// only look like a rule that tracks. TestTracks asks the kernel about each match and statement.
func TestTracksAfterChanges(t *testing.T) {
	const tracks = "table ip f {\n chain c {\n  ct state established accept\n }\n}\n"
	for script, want := range map[string]bool{
		tracks:                                       true,
		tracks + "flush ruleset":                     false,
		tracks + "flush table f":                     false,
		tracks + "flush chain f c":                   false,
		tracks + "delete table ip f":                 false,
		tracks + "flush ruleset ip6":                 true,
		"table ip f {\n # ct state new\n}":           false,
		"table ip f { comment \"ct state\"; }":       false,
		"table arp f { chain c { ct state new; }; }": false,
		"define web = { 80, 443 }\ntable ip f { chain c { tcp dport $web notrack; }; }":     false,
		"define it = ct state new\ntable ip f { chain c { $it drop; }; }":                   true,
		"add table ip f\nadd chain ip f c\nadd rule ip f c ct mark 1 drop":                  true,
		"add table ip f\nadd chain ip f c\nf c ct mark 1 drop":                              true,
		"add table ip f\nadd ct helper ip f h { type \"ftp\" protocol tcp; }":               true,
		"table ip f { ct timeout t { protocol tcp; }; }\ndelete ct timeout f t":             false,
		"table ip f { set s { type ipv4_addr; }; }\nadd element f s { 1.1.1.1 ct count 3 }": true,
		"table ip f {\n chain c {\n  tcp dport 80 \\\n   ct state \\\n new\n }\n}":          true,
	} {
		if got := rules.NFT(script).Tracks(rules.IPv4); (got != nil) != want {
			t.Errorf("%q: %+v, want %v", script, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	stateful := "*filter\n-A INPUT -m conntrack --ctproto tcp -j ACCEPT\nCOMMIT\n"
	for name, test := range map[string]struct {
		texts     rules.Texts
		four, six bool
	}{
		"none":      {},
		"iptables":  {texts: rules.Texts{IPv4: stateful}, four: true},
		"ip6tables": {texts: rules.Texts{IPv6: stateful}, six: true},
		"inet": {
			texts: rules.Texts{NFT: "table inet x { chain y { ct original ip saddr 1.2.3.4; }; }"},
			four:  true, six: true,
		},
		"nft dnat": {
			texts: rules.Texts{NFT: "table inet x { chain y { dnat ip6 to ::1; }; }"}, six: true,
		},
	} {
		read := rules.Read(test.texts)
		four, six := read.Tracks(rules.IPv4) != nil, read.Tracks(rules.IPv6) != nil
		if four != test.four || six != test.six {
			t.Errorf("%s: IPv4 %v, IPv6 %v", name, four, six)
		}
	}
}

// TestUntracked judges flows by rules of both kinds.
func TestUntracked(t *testing.T) {
	web := rules.Flow{Family: rules.IPv4, Protocol: "tcp", Port: 80}
	flood := rules.Flow{Family: rules.IPv4, Protocol: "tcp", Port: 80, SYN: true}
	web6 := rules.Flow{Family: rules.IPv6, Protocol: "tcp", Port: 80}
	self := rules.Flow{Family: rules.IPv4, Protocol: "tcp", Port: 80, Local: true, Loopback: true}
	ping := rules.Flow{Family: rules.IPv4, Protocol: "icmp"}
	ping6 := rules.Flow{Family: rules.IPv6, Protocol: "icmpv6"}
	for _, test := range []struct {
		rule string
		flow rules.Flow
		want bool
	}{
		{"-A PREROUTING -p tcp --dport 80 -j CT --notrack", web, true},
		{"-A PREROUTING -p tcp --dport 80 -j CT --notrack", web6, true},
		{"-A PREROUTING -p 6 --dport=80 -j CT --notrack", web, true},
		{"-A PREROUTING -p udp --dport 80 -j CT --notrack", web, false},
		{"-A PREROUTING ! -p udp -j CT --notrack", web, true},
		{"-A PREROUTING -p tcp --dport 1:79 -j CT --notrack", web, false},
		{"-A PREROUTING -p tcp --dport :80 -j CT --notrack", web, true},
		{"-A PREROUTING -p tcp ! --dport 80 -j CT --notrack", web, false},
		{"-A PREROUTING -p tcp ! --dport 22 -j CT --notrack", web, true},
		{"-A PREROUTING -p tcp -m multiport --dports 22,79:81 -j NOTRACK", web, true},
		{"-A PREROUTING -p tcp --sport 80 -j CT --notrack", web, false},
		{"-A PREROUTING -p tcp --dport http -j CT --notrack", web, true},
		{"-A PREROUTING -p tcp --dport nfs -j CT --notrack", web, false},
		{"-A PREROUTING -p tcp --dport 80 --syn -j CT --notrack", web, false},
		{"-A PREROUTING -p tcp --dport 80 --syn -j CT --notrack", flood, true},
		{
			"-A PREROUTING -p tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -j CT --notrack",
			flood, true,
		},
		{
			"-A PREROUTING -p tcp --dport 80 --syn -m limit --limit 5/s -j CT --notrack",
			flood, false,
		},
		{"-A PREROUTING -p tcp --dport 80 ! --syn -j CT --notrack", flood, false},
		{"-A PREROUTING -p tcp --dport 80 -j CT --notrack", flood, true},
		{"-A PREROUTING -m set --match-set ports dst -j CT --notrack", web, false},
		{"-A PREROUTING -p icmp -j CT --notrack", web, false},
		{"-A PREROUTING -p icmp -j CT --notrack", ping, true},
		{"-A PREROUTING -p ipv6-icmp -j CT --notrack", ping6, true},
		{"-A PREROUTING -i lo -j CT --notrack", web, false},
		{"-A PREROUTING ! -i lo -j CT --notrack", web, true},
		{"-A PREROUTING -j CT --notrack", web, true},
		{"-A OUTPUT -p tcp --dport 80 -j CT --notrack", web, false},
		{"-A OUTPUT -o lo -j CT --notrack", self, true},
		{"-A PREROUTING -i lo -j CT --notrack", self, false},
		{"-A PREROUTING -p tcp --dport 80 -j ACCEPT", web, false},
	} {
		text := "*raw\n" + test.rule + "\nCOMMIT\n"
		read := rules.Read(rules.Texts{IPv4: text, IPv6: text})
		if got := read.Untracked(test.flow); got != test.want {
			t.Errorf("%s: %+v: %v", test.rule, test.flow, got)
		}
	}
	for _, test := range []struct {
		body string
		flow rules.Flow
		want bool
	}{
		{"tcp dport 80 notrack", web, true},
		{"tcp dport 80 notrack", web6, true},
		{"tcp dport { 22, 79-81 } notrack", web, true},
		{"tcp dport 80 tcp flags syn notrack", flood, true},
		{"tcp dport 80 tcp flags & (fin | syn | rst | ack) == syn notrack", flood, true},
		{"tcp dport 80 tcp flags & (fin | syn | rst | ack) == syn notrack", web, false},
		{"tcp dport 80 tcp flags & (fin | syn | rst | ack) == (syn | ack) notrack", flood, false},
		{"tcp dport 80 tcp flags fin notrack", flood, false},
		{"tcp dport != { 22, 80 } notrack", web, false},
		{"tcp dport < 100 notrack", web, false},
		{"tcp dport @ports notrack", web, true},
		{"tcp dport @other notrack", web, false},
		{"meta l4proto { tcp, udp } th dport 80 notrack", web, true},
		{"ip protocol icmp notrack", ping, true},
		{"ip protocol icmp notrack", web, false},
		{"meta nfproto ipv6 notrack", web6, true},
		{"meta nfproto ipv6 notrack", web, false},
		{"ip saddr 10.0.0.0/8 notrack", web6, false},
		{"iif \"lo\" notrack", web, false},
		{"iifname != lo notrack", web, true},
		{"udp dport 80 notrack", web, false},
		{"ip saddr . tcp dport { 10.0.0.1 . 80 } notrack", web, false},
		{"tcp dport 80 accept", web, false},
	} {
		for hook, reached := range map[string]bool{
			"type filter hook prerouting priority raw;":          true,
			"type filter hook prerouting priority -199;":         false,
			"type filter hook prerouting priority mangle - 100;": true,
			"type filter hook output priority raw;":              false,
			"":                                                   false, // no chain jumps here
		} {
			read := rules.NFT(`table inet t {
				set ports { type inet_service; elements = { 22, 80-81 }; }
				set other { type inet_service; }
				chain c { ` + hook + " " + test.body + "; }\n}")
			got := read.Untracked(test.flow)
			if got != (test.want && reached) || len(read.Problems) > 0 {
				t.Errorf("%s %s: %+v: %v %v", hook, test.body, test.flow, got, read.Problems)
			}
		}
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct{ kind, text, want string }{
		{
			"ip", "*fliter\nCOMMIT\n",
			`1:1 "fliter" is not a table of iptables; did you mean "filter"?`,
		},
		{
			"ip", "*raw\n*nat\nCOMMIT\n",
			`2:1 the table "nat" begins before "raw" has ended with COMMIT`,
		},
		{"ip", "*raw\nCOMMIT\n*raw\nCOMMIT\n", `3:1 the table "raw" is given twice`},
		{"ip", "  *raw\n", `1:3 the table "raw" does not end with COMMIT`},
		{"ip", "COMMIT\n", "1:1 COMMIT without a table"},
		{"ip", "-A INPUT\n", `1:1 "-A INPUT" is outside of a table`},
		{
			"ip", "*raw\n iptables -A x\nCOMMIT\n",
			`2:2 "iptables -A x" is a command line`,
		},
		{"ip", "*raw\n-A OUTPUT –dport 8\nCOMMIT\n", `2:11 "–dport" has a dash`},
		{"ip", "*raw\n-A OUTPUT --comment \"x\nCOMMIT\n", "2:1 a double quote is not closed"},
		{"nft", "table ip t {\n chain c {\n  accept\n", "2:10 the brace is not closed"},
		{"nft", "table ip t {\n}\n}\n", "3:1 a closing brace without its opening one"},
		{
			"nft", "table ip t { chain c { tcp dport $ssh accept; }; }",
			"1:34 there is no variable $ssh",
		},
		{
			"nft", "define sshd = 22\ntable ip t { chain c { tcp dport $ssh accept; }; }",
			`2:34 there is no variable $ssh; did you mean "sshd"?`,
		},
		{
			"nft", "table innet t {\n}",
			`1:7 "innet" is not a family of tables; did you mean "inet"?`,
		},
		{"nft", "table ip t { chain c { tcp dport { 22 ; }\n", "the brace is not closed"},
		{"nft", "table ip t { comment \"x\n }", "1:22 a double quote is not closed"},
		{"nft", "table {\n}", "1:1 a table without a name"},
		{
			"nft",
			"table ip t {\n set ports { type mark; }\n chain c { tcp dport @prots accept; }\n}",
			`3:22 the table ip t has no set "prots"; did you mean "ports"?`,
		},
		{"nft", "table ip t {\n chain c { jump d; }\n}", `2:17 the table ip t has no chain "d"`},
		{
			"nft", "table ip t {\n chain c { ct timeout set \"x\"; }\n}",
			`2:27 the table ip t has no object "x"`,
		},
		{
			"nft", "table ip t { chain c { ct helper \"ftp\" tcp dport vmap { 22 : goto c }; }; }",
			"",
		},
	} {
		read := rules.Iptables(rules.IPv4, test.text)
		if test.kind == "nft" {
			read = rules.NFT(test.text)
		}
		var got []string
		for _, p := range append(read.Problems, read.Undefined()...) {
			got = append(got, fmt.Sprintf("%d:%d %s", p.At.Line, p.At.Column, p.Text))
		}
		text := strings.Join(got, "\n")
		if test.want == "" && text != "" || !strings.Contains(text, test.want) {
			t.Errorf("%q:\n%s\nwant %s", test.text, text, test.want)
		}
	}
}

// TestVariablesAreBounded has variables that double from one to the next.
func TestVariablesAreBounded(t *testing.T) {
	script := "define v0 = 1, 1\n"
	for i := range 40 {
		script += fmt.Sprintf("define v%d = $v%d, $v%d\n", i+1, i, i)
	}
	read := rules.NFT(script)
	if len(read.Problems) == 0 || !strings.Contains(read.Problems[0].Text, "more than") {
		t.Errorf("problems: %v", read.Problems)
	}
}

func TestRetarget(t *testing.T) {
	text := "*raw\n   [1:2] -A OUTPUT -m comment --comment \"a  b\" -j NOTRACK -p tcp\nCOMMIT\n"
	line := rules.Iptables(rules.IPv4, text).Tables[0].Lines[0]
	want := "[1:2] -A OUTPUT -m comment --comment \"a  b\" -j CT --notrack -p tcp"
	if got := line.Retarget("-j CT --notrack"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestBareLeavesOutWhatChangesByItself(t *testing.T) {
	a := "# Generated by iptables-save on Monday\n*filter\n:INPUT DROP [0:0]\n-A INPUT -j ACCEPT\n"
	b := strings.NewReplacer("Monday", "Tuesday", "[0:0]", "[17:1234]").Replace(a)
	if rules.Bare(a) != rules.Bare(b) {
		t.Error("counters and dates count as a change")
	}
	if rules.Bare(a) == rules.Bare(strings.Replace(a, "-j ACCEPT", "-j DROP", 1)) {
		t.Error("another target does not count as a change")
	}
	a = "counter packets 1 bytes 2 accept elements = { 10.0.0.1 expires 59s990ms }"
	b = "counter packets 3 bytes 4 accept elements = { 10.0.0.1 expires 1s }"
	if rules.Bare(a) != rules.Bare(b) {
		t.Error("counters of nft count as a change")
	}
}

func TestListings(t *testing.T) {
	saved := "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n" +
		"*raw\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
	got := rules.Existing(rules.IPv4, saved, "table ip filter {\n\tchain INPUT {\n\t}\n}\n")
	want := "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n*raw\nCOMMIT\n"
	if got != want {
		t.Errorf("chains that exist:\n%s", got)
	}
	counted := strings.Replace(saved, "[0:0]", "[7:8]", 1)
	got = rules.Changed(saved, strings.Replace(counted, ":OUTPUT ACCEPT", ":OUTPUT DROP", 1))
	if got != "*raw\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n" {
		t.Errorf("tables that changed:\n%s", got)
	}
	a, b := "table ip a {\n\tchain c {\n\t}\n}\n", "table ip b {\n}\n"
	got = rules.ByName(b + a)
	if want := rules.ByName(a + b); got != want || !strings.Contains(got, "chain c") {
		t.Errorf("in the order of names:\n%s\n%s", got, want)
	}
}
