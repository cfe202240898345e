package rules

import (
	"net/netip"
	"strings"
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
	tcp := Flow{
		Family: IPv4, Protocol: "tcp", Port: 80, Through: true,
		In: []string{"eth0", "${client.interface}"}, Out: []string{"eth1", "${server.interface}"},
		From: netip.MustParsePrefix("10.77.0.2/32"), To: netip.MustParsePrefix("10.78.0.2/32"),
		Lab: map[string]netip.Prefix{
			"client.network":  netip.MustParsePrefix("10.77.0.0/16"),
			"server.network":  netip.MustParsePrefix("10.78.0.0/16"),
			"server2.address": netip.MustParsePrefix("10.78.0.3/32"),
		},
	}
	udp, other, many, led := tcp, tcp, tcp, tcp
	udp.Protocol, other.Port = "udp", 81
	many.From = netip.MustParsePrefix("10.77.128.0/28")
	led.Through, led.Out, led.To = false, nil, netip.MustParsePrefix("10.77.0.1/32")
	six := Flow{Family: IPv6, Protocol: "tcp", Port: 80, Through: true}
	const marks = "*nat\n-A PREROUTING -p tcp --dport 80 -j mark\n" +
		"-A mark -j MARK --or-mark 0x4000\n" +
		"-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n" +
		"-A POSTROUTING -j MARK --set-xmark 0x4000/0x4000\n-A POSTROUTING -j MASQUERADE\nCOMMIT"
	const sets = "create inside hash:net\nadd inside 10.77.0.0/24\n" +
		"create pairs hash:ip,port\nadd pairs 10.77.0.2,tcp:80"
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
		"the interface":        {ipv4("-o eth1 -j MASQUERADE"), tcp, 64512},
		"another interface":    {ipv4("-o docker0 -j MASQUERADE"), tcp, 0},
		"from a network":       {ipv4("-s 10.0.0.0/8 -j MASQUERADE"), tcp, 64512},
		"from another network": {ipv4("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"), tcp, 0},
		"from outside":         {ipv4("! -s 172.17.0.0/16 -o eth+ -j MASQUERADE"), tcp, 64512},
		"from the lab's":       {ipv4("-s ${client.network} -j MASQUERADE"), many, 64512},
		"from one of many":     {ipv4("-s 10.77.128.3 -j MASQUERADE"), many, 0},
		"to an address":        {ipv4("-d 10.78.0.2/32 -j MASQUERADE"), tcp, 64512},
		"to the lab's":         {ipv4("-d ${server.network} -j MASQUERADE"), tcp, 64512},
		"to another":           {ipv4("-d ${server2.address} -j MASQUERADE"), tcp, 0},
		"left out before": {
			ipv4("-d 10.0.0.0/8 -j ACCEPT\n-A POSTROUTING -j MASQUERADE"), tcp, 0,
		},
		"marked before": {Texts{IPv4: marks}, tcp, 64512},
		"not marked":    {Texts{IPv4: marks}, other, 0},
		"marked by chance": {
			Texts{IPv4: strings.Replace(marks, "--dport 80", "-m statistic", 1)}, tcp, 0,
		},
		"a set": {
			Texts{IPv4: ipv4("-m set --match-set inside src -j MASQUERADE").IPv4, IPSet: sets}, tcp,
			64512,
		},
		"not in the set": {
			Texts{IPv4: ipv4("-m set --match-set inside dst -j MASQUERADE").IPv4, IPSet: sets}, tcp,
			0,
		},
		"a set of two fields": {
			Texts{IPv4: ipv4("-m set --match-set pairs src,src -j MASQUERADE").IPv4, IPSet: sets},
			tcp, 0,
		},
		"led on before": {
			Texts{IPv4: "*nat\n-A PREROUTING -p tcp -j DNAT --to-destination 10.78.0.9:81\n" +
				"-A POSTROUTING -d 10.78.0.9 -p tcp --dport 81 -j MASQUERADE\nCOMMIT"}, led, 64512,
		},
		"nft, from a network": {
			nft("ip", "ip saddr 10.77.0.0/16 ip daddr != 10.77.0.0/16 masquerade"), tcp, 64512,
		},
		"nft, a mark": {
			nft("ip", "meta mark & 0x4000 != 0x4000 return; meta mark set meta mark ^ 0x4000; "+
				"masquerade"), tcp, 0,
		},
		"nft, no mark": {
			nft("ip", "meta mark 0 masquerade"), tcp, 64512,
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
