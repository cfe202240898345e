package rules

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSourceNAT(t *testing.T) {
	for _, tc := range []struct {
		name  string
		texts Texts
		flow  Flow
		want  int64 // sources towards one destination; 0: no translation
	}{
		{"a range of ports", Texts{IPv4: "*nat\n-A POSTROUTING -o ${server.interface} -p tcp -j SNAT --to-source ${dut.server.address}:40000-40399 --random-fully\nCOMMIT"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 400},
		{"another protocol", Texts{IPv4: "*nat\n-A POSTROUTING -p tcp -j SNAT --to-source 192.0.2.1:40000-40399\nCOMMIT"}, Flow{Family: IPv4, Protocol: "udp", Port: 80}, 0},
		{"two addresses", Texts{IPv4: "*nat\n-A POSTROUTING -j SNAT --to-source 192.0.2.1-192.0.2.2:1024-2023\nCOMMIT"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 2000},
		{"an address alone", Texts{IPv4: "*nat\n-A POSTROUTING -j SNAT --to-source 192.0.2.1\nCOMMIT"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 64512},
		{"masquerade", Texts{IPv4: "*nat\n-A POSTROUTING -p tcp -j MASQUERADE --to-ports 2000-2009\nCOMMIT"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 10},
		{"redirect is no source NAT", Texts{IPv4: "*nat\n-A PREROUTING -p tcp -j REDIRECT --to-ports 8080\nCOMMIT"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 0},
		{"nft, ports", Texts{NFT: "table ip n { chain p { type nat hook postrouting priority srcnat; tcp dport 80 snat to 192.0.2.1:5000-5099 random; }; }"}, Flow{Family: IPv4, Protocol: "tcp", Port: 80}, 100},
		{"nft, another port", Texts{NFT: "table ip n { chain p { type nat hook postrouting priority srcnat; tcp dport 80 snat to 192.0.2.1:5000-5099; }; }"}, Flow{Family: IPv4, Protocol: "tcp", Port: 81}, 0},
		{"nft, masquerade", Texts{NFT: "table ip n { chain p { type nat hook postrouting priority srcnat; oifname \"eth1\" masquerade; }; }"}, Flow{Family: IPv4, Protocol: "tcp", Port: 81}, 64512},
		{"nft, masquerade to ports", Texts{NFT: "table inet n { chain p { type nat hook postrouting priority srcnat; meta l4proto tcp masquerade to :1024-1033; }; }"}, Flow{Family: IPv6, Protocol: "tcp", Port: 81}, 10},
		{"IPv6", Texts{IPv6: "*nat\n-A POSTROUTING -p tcp -j SNAT --to-source [fd00::1]:40000-40009\nCOMMIT"}, Flow{Family: IPv6, Protocol: "tcp", Port: 80}, 10},
	} {
		got, rule := Read(tc.texts).SourceNAT(tc.flow)
		if (rule != nil) != (tc.want > 0) || rule != nil && got.Ports() != tc.want {
			t.Errorf("%s: %+v by %+v, want %d", tc.name, got, rule, tc.want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	const script = `table ip t {
		ct timeout short { protocol tcp; l3proto ip; policy = { time_wait : 1, close: 1m40s, established : 1d } }
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
		if diff := cmp.Diff(tc.want, read.Timeouts(Flow{Family: IPv4, Protocol: tc.protocol, Port: tc.port})); diff != "" {
			t.Errorf("%s %d: %s", tc.protocol, tc.port, diff)
		}
	}
}
