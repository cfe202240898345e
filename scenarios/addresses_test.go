package scenarios

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAddresses_StandForNodes replaces the user's addresses in texts, and no others.
func TestAddresses_StandForNodes(t *testing.T) {
	given := Addresses{
		{"203.0.113.5", "dut"}, {"192.168.1.10", "server"}, {"192.168.1.11", "server2"},
		{"192.168.1.0/24", "server"}, {"192.168.0.0/16", "client"}, {"192.168.1.1", "dut.server"},
		{"2001:db8::5", "dut"}, {"2001:db8::/64", "client"}, {"2001:db8::a", "server1"},
	}
	for text, want := range map[string]string{
		"-d 203.0.113.5/32 -j X":           "-d ${dut.client.address}/32 -j X",
		"-d 203.0.113.55":                  "-d 203.0.113.55",
		"-d 1203.0.113.5":                  "-d 1203.0.113.5",
		"--to-destination 192.168.1.10:80": "--to-destination ${server.address}:80",
		"192.168.1.11-192.168.1.12":        "${server2.address}-192.168.1.12",
		"-s 192.168.1.0/24 -d 192.168.1.1": "-s ${server.network} -d ${dut.server.address}",
		"-s 192.168.0.0/16,10.0.0.0/8":     "-s ${client.network},10.0.0.0/8",
		"192.168.1.0":                      "192.168.1.0",
		"ip6 daddr 2001:db8::5 dnat to [2001:db8::a]:80": "ip6 daddr " +
			"${dut.client.address6} dnat to [${server.address6}]:80",
		"2001:db8::/64 2001:DB8:0::5":         "${client.network6} ${dut.client.address6}",
		"{ 203.0.113.5 . tcp . 80 : goto x }": "{ ${dut.client.address} . tcp . 80 : goto x }",
		"-m mac 00:11:22:33:44:55":            "-m mac 00:11:22:33:44:55",
	} {
		if got := given.inLab(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestAddresses_OfExperiments has them in the dut alone, for the texts of all scenarios.
func TestAddresses_OfExperiments(t *testing.T) {
	const rules = "*nat\n-A PREROUTING -d 203.0.113.5 -p tcp --dport 80 -j DNAT --to-destination " +
		"192.168.1.10:8080\nCOMMIT\n"
	const addresses = "  addresses: {203.0.113.5: dut, 192.168.1.10: server}\n"
	e := parsed(t, "experiment: x\ntopology: router\nworkload: [{generator: http, target: dut, "+
		"requests: 10, concurrency: 2}]\ndut:\n"+addresses+keyed("rules", rules))
	r := e.Resolve()[0]
	if !strings.Contains(r.DUT.Rules, "-d ${dut.client.address} -p tcp --dport 80 -j DNAT "+
		"--to-destination ${server.address}:8080\n") {
		t.Error(r.DUT.Rules)
	}
	web := func(port uint16) Listening {
		return Listening{Program{Transport: "tcp", Answer: AnswerHTTP}, port}
	}
	want := map[string][]Listening{nodeServer: {web(8080)}}
	if diff := cmp.Diff(want, r.Answering(e.Topology)); diff != "" {
		t.Errorf("what listens (-want +got):\n%s", diff)
	}
	for dut, want := range map[string]string{
		"  addresses: {203.0.113: dut}\n": "5:15: \"203.0.113\" is neither",
		"  addresses: {203.0.113.5: sever}\n": "5:28: the router topology has nothing for the " +
			"address of \"sever\"; did you mean \"server\"?",
		"  addresses: {203.0.113.5: server2}\n":    "nothing for the address of \"server2\"",
		"  addresses: {\"2001:db8::1\": server}\n": "nothing for the address of \"server\"",
		"  addresses: 203.0.113.5\n":               "addresses must be addresses with nodes",
		"  listen: [0]\n":                          "\"0\" is not a port at which",
		"  listen: [80/sctp]\n":                    "\"80/sctp\" is not a port",
		"  listen: [90-80]\n":                      "\"90-80\" is not a port",
		"  listen: [\"sever:80\"]\n":               "no node \"sever\"; did you mean",
		"  listen: [\"client:80\"]\n":              "nothing listens on a client",
	} {
		_, _, err := Parse("x.yaml", []byte("experiment: x\ntopology: router\nworkload: ["+load+
			"]\ndut:\n"+dut))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nlacks %s", dut, err, want)
		}
	}
	_, _, err := Parse("x.yaml", []byte("experiment: x\nworkload: ["+load+
		"]\nscenarios: {a: {addresses: {203.0.113.5: dut}}}\n"))
	if err == nil || !strings.Contains(err.Error(), "addresses stand in the dut") {
		t.Error(err)
	}
}

// TestAnswering_WhereRulesLead has a program wherever rules may lead the load, and where listen
// asks for one.
func TestAnswering_WhereRulesLead(t *testing.T) {
	const nft = `table ip nat {
  map services { type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . tcp . 80 : goto service }
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }
  chain services { ip daddr . meta l4proto . th dport vmap @services; }
  chain service { numgen random mod 2 vmap { 0 : goto one, 1 : goto two }; }
  chain one { meta l4proto tcp dnat to 10.244.1.5:8080; }
  chain two { meta l4proto tcp dnat to 10.244.2.7:8080; }
}
`
	const addresses = "  addresses: {10.96.0.10: dut, 10.244.1.5: server, 10.244.2.7: server2}\n"
	const redirect = "*nat\n-A PREROUTING -p tcp -j REDIRECT --to-ports 15006\nCOMMIT\n"
	const own = "*nat\n-A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 8443\nCOMMIT\n"
	const gone = "*nat\n-A PREROUTING -p udp --dport 53 -m recent --name moved --rcheck " +
		"-j ACCEPT\n-A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5301\nCOMMIT\n"
	const two = "{kind: router, servers: 2}"
	const web = "{generator: http, target: dut, requests: 10, concurrency: 2}"
	for name, test := range map[string]struct {
		topology, dut, workload string
		want                    map[string][]string
	}{
		"a redirect": {"server", keyed("rules", redirect), load,
			map[string][]string{"dut": {"tcp 15006 any"}}},
		"for another port": {"server", keyed("rules", own),
			load + ", {probe: tcp, port: 22, rate: 5/s}",
			map[string][]string{"dut": {"tcp 80 any", "tcp 22 any"}}},
		"maps of verdicts": {two, addresses + keyed("nft", nft), web, map[string][]string{
			"dut": {"tcp 80 web"}, "server": {"tcp 8080 web"}, "server2": {"tcp 8080 web"}}},
		"a backend that has gone": {"server", keyed("rules", gone),
			"{generator: udp, flows: 9, rate: 1/s, ports: 53, silent: true, listener: closed}, " +
				"{generator: udp, name: later, flows: 9, rate: 1/s, ports: 53}",
			map[string][]string{"dut": {"udp 53 echo"}}},
		"listen": {"router", "  listen: [15006, 53/udp, \"server:8000-8001\", 80]\n", web,
			map[string][]string{"dut": {"tcp 80 web", "tcp 15006 any", "udp 53 echo"},
				"server": {"tcp 8000 any", "tcp 8001 any"}}},
	} {
		e, _, err := Parse("x.yaml", []byte("experiment: x\ntopology: "+test.topology+
			"\nworkload: ["+test.workload+"]\ndut:\n"+test.dut))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][]string{}
		words := map[Answer]string{AnswerAny: "any", AnswerHTTP: "web", AnswerEcho: "echo"}
		for node, list := range e.Resolve()[0].Answering(e.Topology) {
			for _, l := range list {
				got[node] = append(got[node],
					fmt.Sprint(l.Transport, " ", l.Port, " ", words[l.Answer]))
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestGuides_OfDestinationNAT warns of targets that no node has, and of notrack before NAT.
func TestGuides_OfDestinationNAT(t *testing.T) {
	const dnat = "*nat\n-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.168.1.10\n" +
		"COMMIT\n"
	const raw = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\n" +
		"-A OUTPUT -p tcp --sport 80 -j CT --notrack\nCOMMIT\n"
	const kept = "notrack keeps these packets from the rule"
	const nft = `table ip t {
  chain raw {
    type filter hook prerouting priority raw; policy accept;
    tcp dport 80 notrack
  }
  chain nat {
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport { 80, 443 } redirect to :8080
  }
}
`
	for name, test := range map[string]struct{ topology, dut, want string }{
		"no node": {"server", keyed("rules", dnat), "x.yaml:7:5: the rule leads the load \"tcp\" " +
			"to 192.168.1.10, and no node of the lab has that address; addresses: " +
			"{192.168.1.10: server} gives it to one"},
		"notrack": {"server", keyed("rules", raw+dnat), "x.yaml:7:5: " + kept},
		"of another port": {"server", keyed("rules",
			strings.ReplaceAll(raw, "80", "53")+dnat), ""},
		"in nft":       {"server", keyed("nft", nft), "x.yaml:9:9: " + kept},
		"for a router": {"router", keyed("rules", raw+dnat), kept},
	} {
		got := warningsOf(t, test.topology, test.dut, load)
		if !strings.Contains(got, test.want) ||
			test.want == "" && strings.Contains(got, kept) {
			t.Errorf("%s: %s\nlacks %q", name, got, test.want)
		}
	}
}

func FuzzListen(f *testing.F) {
	for _, text := range []string{"15006", "53/udp", "server2:8000-8063/tcp", ":", "dut:70000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if l, ok := parseListen(text); ok && (l.First < 1 || l.Last < l.First || l.node == "") {
			t.Errorf("%q: %+v", text, l)
		}
	})
}

func FuzzAddressesInLab(f *testing.F) {
	f.Add("-d 203.0.113.5/32 [2001:db8::5]:80", "203.0.113.5", "dut")
	f.Add("192.168.1.0/24", "192.168.1.0/24", "server2")
	f.Fuzz(func(t *testing.T, text, address, owner string) {
		given := Addresses{{address, owner}}
		if once := given.inLab(text); given.inLab(once) != once && !strings.Contains(owner, ":") &&
			!strings.Contains(owner, ".") {
			t.Errorf("%q becomes %q and then %q", text, once, given.inLab(once))
		}
	})
}
