package scenarios

import (
	"strings"
	"testing"
)

// TestOneDirection_InEveryForm exempts the packets to a port in each form that rules can have, in
// both families: one direction alone gets a warning at its line, and both directions get none.
func TestOneDirection_InEveryForm(t *testing.T) {
	const there, back = "-p tcp --dport 80", "-p tcp --sport 80"
	const begin, end = "*raw\n", "COMMIT\n" + stateful
	for name, form := range map[string]struct{ one, other string }{
		"plain": {"-A PREROUTING " + there + " -j CT --notrack\n",
			"-A OUTPUT " + back + " -j CT --notrack\n"},
		"the old target": {"-A PREROUTING " + there + " -j NOTRACK\n",
			"-A OUTPUT " + back + " -j NOTRACK\n"},
		"counters": {"[9:540] -A PREROUTING " + there + " -j CT --notrack\n",
			"[8:480] -A OUTPUT " + back + " -j CT --notrack\n"},
		"inserted": {"-I PREROUTING " + there + " -j CT --notrack\n",
			"-I OUTPUT 1 " + back + " -j CT --notrack\n"},
		"inserted, with counters": {"[9:540] -I PREROUTING 1 " + there + " -j CT --notrack\n",
			"[9:540] -I OUTPUT " + back + " -j CT --notrack\n"},
		"long options": {
			"--append PREROUTING --protocol tcp --match tcp --destination-port 80 --jump CT " +
				"--notrack\n",
			"--append OUTPUT --protocol tcp --match tcp --source-port 80 --jump CT --notrack\n",
		},
		"several ports": {"-A PREROUTING -p tcp -m multiport --dports 80,443 -j CT --notrack\n",
			"-A OUTPUT -p tcp -m multiport --sports 80,443 -j CT --notrack\n"},
		"a chain of its own": {
			":w - [0:0]\n-A PREROUTING -j w\n-A w " + there + " -j CT --notrack\n",
			":v - [0:0]\n-A OUTPUT -j v\n-A v " + back + " -j CT --notrack\n",
		},
		"a chain of a chain": {":w - [0:0]\n:x - [0:0]\n-A PREROUTING " + there +
			" -g w\n-A w -j x\n-A x -j CT --notrack\n",
			":v - [0:0]\n:y - [0:0]\n-A OUTPUT " + back + " -g v\n-A v -j y\n-A y -j CT " +
				"--notrack\n"},
	} {
		for key, families := range map[string]string{"rules": "ipv4", "rules6": "ipv6"} {
			warnsOnce(t, name+" of "+key, families, keyed(key, begin+form.one+end),
				keyed(key, begin+form.one+form.other+end))
		}
	}
	const pre, out = " type filter hook prerouting priority raw; ",
		" type filter hook output priority raw; "
	const tracks = " chain i { type filter hook input priority 0; ct state new,untracked accept; }"
	for name, form := range map[string]struct{ one, other string }{
		"plain": {"chain p {" + pre + "tcp dport 80 notrack; }",
			"chain o {" + out + "tcp sport 80 notrack; }"},
		"counters": {"chain p {" + pre + "tcp dport 80 counter packets 9 bytes 540 notrack; }",
			"chain o {" + out + "tcp sport 80 counter notrack; }"},
		"a set": {"set s { type inet_service; elements = { 80, 443 }; }\n chain p {" + pre +
			"tcp dport @s notrack; }", "chain o {" + out + "tcp sport { 80, 443 } notrack; }"},
		"the header of transport": {"chain p {" + pre + "meta l4proto tcp th dport 80 notrack; }",
			"chain o {" + out + "meta l4proto tcp th sport 80 notrack; }"},
		"a chain of its own": {"chain w { notrack; }\n chain p {" + pre + "tcp dport 80 jump w; }",
			"chain o {" + out + "tcp sport 80 goto w; }"},
		"a map of verdicts": {"chain w { notrack; }\n chain p {" + pre +
			"tcp dport vmap { 80 : jump w }; }",
			"chain o {" + out + "tcp sport vmap { 80 : jump w }; }"},
	} {
		for family, families := range map[string]string{"ip": "ipv4", "ip6": "ipv6",
			"inet": "ipv4, ipv6"} {
			text := func(chains string) string {
				return keyed("nft", "table "+family+" t {\n "+chains+"\n"+tracks+"\n}")
			}
			warnsOnce(t, name+" of table "+family, families, text(form.one),
				text(form.one+"\n "+form.other))
		}
	}
	commands := "table ip t { chain p {" + pre + "}\n chain o {" + out + "}\n" + tracks + " }\n" +
		"insert rule ip t p tcp dport 80 notrack\n"
	warnsOnce(t, "commands of nft", "ipv4", keyed("nft", commands),
		keyed("nft", commands+"add rule ip t o tcp sport 80 notrack\n"))
}

// warnsOnce expects one warning of a DUT that exempts one direction, and none of one that exempts
// both.
func warnsOnce(t *testing.T, name, families, one, both string) {
	t.Helper()
	topology := "{families: [" + families + "]}"
	if got := warningsOf(t, topology, one, load); strings.Count(got, oneWay) != 1 {
		t.Errorf("%s: %q\n%s", name, got, one)
	}
	if got := warningsOf(t, topology, both, load); strings.Contains(got, "one direction") {
		t.Errorf("%s, both directions: %s\n%s", name, got, both)
	}
}

// TestOneDirection_InWords has the words of rules in places where they do nothing.
func TestOneDirection_InWords(t *testing.T) {
	for name, dut := range map[string]string{
		"a quoted comment": keyed("rules", "*raw\n-A PREROUTING -p tcp --dport 80 -m comment "+
			"--comment \"-j CT --notrack\" -j ACCEPT\nCOMMIT\n"+stateful),
		"a comment of a file": keyed("rules", "*raw\n# -A PREROUTING -j CT --notrack\nCOMMIT\n"+
			stateful),
		"a prefix of the log": keyed("rules", "*raw\n-A PREROUTING -p tcp --dport 80 -j LOG "+
			"--log-prefix \"notrack CT --notrack \"\nCOMMIT\n"+stateful),
		"a chain that nothing jumps to": keyed("rules", "*raw\n:notrack - [0:0]\n-A notrack -p "+
			"tcp --dport 80 -j CT --notrack\nCOMMIT\n"+stateful),
		"a comment of nft": keyed("nft", "table ip t {\n # tcp dport 80 notrack\n chain p { type "+
			"filter hook prerouting priority raw; tcp dport 80 accept comment \"notrack\"; }\n "+
			"chain i { type filter hook input priority 0; ct state new accept; }\n}"),
	} {
		if got := warningsOf(t, "server", dut, load); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
