package rules

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSourceNAT(t *testing.T) {
	ipv4 := func(rule string) Texts {
		return Texts{IPv4: "*nat\n-A POSTROUTING " + rule + "\nCOMMIT"}
	}
	nft := func(family, rule string) Texts {
		return Texts{NFT: "table " + family + " n { chain p { type nat hook postrouting priority " +
			"srcnat; " + rule + "; }; }"}
	}
	tcp := Flow{Family: IPv4, Protocol: "tcp", Port: 80}
	udp, other := tcp, tcp
	udp.Protocol, other.Port = "udp", 81
	six := Flow{Family: IPv6, Protocol: "tcp", Port: 80}
	for name, tc := range map[string]struct {
		texts Texts
		flow  Flow
		want  int64 // sources towards one destination; 0: no translation
	}{
		"a range of ports": {ipv4("-o ${server.interface} -p tcp -j SNAT --to-source " +
			"${dut.server.address}:40000-40399 --random-fully"), tcp, 400},
		"another protocol": {ipv4("-p tcp -j SNAT --to-source 192.0.2.1:40000-40399"), udp, 0},
		"two addresses":    {ipv4("-j SNAT --to-source 192.0.2.1-192.0.2.2:1024-2023"), tcp, 2000},
		"an address alone": {ipv4("-j SNAT --to-source 192.0.2.1"), tcp, 64512},
		"masquerade":       {ipv4("-p tcp -j MASQUERADE --to-ports 2000-2009"), tcp, 10},
		"redirect is no source NAT": {
			Texts{IPv4: "*nat\n-A PREROUTING -p tcp -j REDIRECT --to-ports 8080\nCOMMIT"}, tcp, 0,
		},
		"nft, ports": {nft("ip", "tcp dport 80 snat to 192.0.2.1:5000-5099 random"), tcp, 100},
		"nft, another port": {
			nft("ip", "tcp dport 80 snat to 192.0.2.1:5000-5099"), other, 0,
		},
		"nft, masquerade": {nft("ip", "oifname \"eth1\" masquerade"), other, 64512},
		"nft, masquerade to ports": {
			nft("inet", "meta l4proto tcp masquerade to :1024-1033"), six, 10,
		},
		"IPv6": {
			Texts{IPv6: "*nat\n-A POSTROUTING -p tcp -j SNAT --to-source " +
				"[fd00::1]:40000-40009\nCOMMIT"}, six, 10,
		},
	} {
		got, rule := Read(tc.texts).SourceNAT(tc.flow)
		if (rule != nil) != (tc.want > 0) || rule != nil && got.Ports() != tc.want {
			t.Errorf("%s: %+v by %+v, want %d", name, got, rule, tc.want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	const script = `table ip t {
		ct timeout short {
			protocol tcp; l3proto ip; policy = { time_wait : 1, close: 1m40s, established : 1d }
		}
		ct timeout names { protocol udp; policy = { unreplied : 2s, replied : 3 } }
		chain c { type filter hook prerouting priority -150
			tcp dport 80 ct timeout set "short"
			udp dport { 53, 5353 } ct timeout set "names"
		}
	}`
	read := Read(Texts{NFT: script})
	for _, tc := range []struct {
		protocol string
		port     uint16
		want     map[string]int64
	}{
		{"tcp", 80, map[string]int64{"time_wait": 1, "close": 100, "established": 86400}},
		{"udp", 53, map[string]int64{"unreplied": 2, "replied": 3}},
		{"tcp", 81, nil},
		{"udp", 80, nil},
	} {
		got := read.Timeouts(Flow{Family: IPv4, Protocol: tc.protocol, Port: tc.port})
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s %d: %s", tc.protocol, tc.port, diff)
		}
	}
}
