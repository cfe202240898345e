package guest

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

// statefulRules, in the form of iptables-save, are the rules of an incident: a stateful firewall.
const statefulRules = `*filter
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m state --state NEW --dport 80 -j ACCEPT
COMMIT
`

// notrackRules exempt both directions of both ends: on loopback, client and server are one host.
const notrackRules = `*raw
-A PREROUTING -p tcp --dport 80 -j NOTRACK
-A OUTPUT -p tcp --sport 80 -j NOTRACK
-A PREROUTING -p tcp --sport 80 -j CT --notrack
-A OUTPUT -p tcp --dport 80 -j CT --notrack
COMMIT
`

const nftStateful = `table inet t {
	chain in {
		type filter hook input priority filter
		ct state established,related accept; ct state new tcp dport 80 accept
	}
}
`

const nftNotrack = `table inet raw {
	chain pre {
		type filter hook prerouting priority raw; tcp dport 80 notrack; tcp sport 80 notrack
	}
	chain out { type filter hook output priority raw; tcp dport 80 notrack; tcp sport 80 notrack; }
}
`

// ruleTool is a way to apply rules.
type ruleTool struct {
	name                               string
	stateful, notrack, readBack, flush Step
	want                               string // part of the rules read back
}

func iptablesTool(variant string) ruleTool {
	restore, save := "iptables-"+variant+"-restore", "iptables-"+variant+"-save"
	return ruleTool{
		name:     variant,
		stateful: Step{Args: []string{restore}, Stdin: statefulRules},
		notrack:  Step{Args: []string{restore, "--noflush"}, Stdin: notrackRules},
		readBack: Step{Args: []string{save}},
		flush:    Step{Args: []string{restore}, Stdin: "*raw\nCOMMIT\n*filter\nCOMMIT\n"},
		want:     "--state RELATED,ESTABLISHED -j ACCEPT",
	}
}

var ruleTools = []ruleTool{iptablesTool("legacy"), iptablesTool("nft"), {
	name:     "nft",
	stateful: Step{Args: []string{"nft", "-f", "-"}, Stdin: nftStateful},
	notrack:  Step{Args: []string{"nft", "-f", "-"}, Stdin: nftNotrack},
	readBack: Step{Args: []string{"nft", "list", "ruleset"}},
	flush:    Step{Args: []string{"nft", "flush", "ruleset"}},
	want:     "ct state established,related accept",
}}

// TestBootRules lets the kernel itself load what rules need, with each of the rule tools.
func TestBootRules(t *testing.T) {
	t.Parallel()
	hosttest.Need(t, "conntrack")
	for _, name := range bootKernels {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			var steps []Step
			for _, tool := range ruleTools {
				steps = append(steps,
					tool.stateful, tool.readBack, Step{Args: []string{"traffic", "80"}},
					Step{Args: []string{"cat", countFile}},
					Step{Args: []string{"conntrack", "-F"}}, tool.notrack,
					Step{Args: []string{"traffic", "80"}},
					Step{Args: []string{"conntrack", "-C"}},
					tool.flush)
			}
			results := boot(t, hostKernelFor(t, name), steps)
			wantOK(t, results...)
			for i, tool := range ruleTools {
				r := results[i*len(results)/len(ruleTools):]
				if !strings.Contains(r[1].Output, tool.want) {
					t.Errorf("%s: no %q in the rules as read back:\n%s", tool.name, tool.want,
						r[1].Output)
				}
				if r[3].Output != "1\n" {
					t.Errorf("%s: count %q after a connection through stateful rules, want 1",
						tool.name, r[3].Output)
				}
				if r[7].Output != "0\n" {
					t.Errorf("%s: count %q after a connection through NOTRACK rules, want 0",
						tool.name, r[7].Output)
				}
			}
		})
	}
}

// iptablesVocabulary holds rules with all matches and targets that concern load and tracking.
var iptablesVocabulary = []string{
	"raw -A PREROUTING -p udp --dport 53 -j CT --notrack",
	"raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp",
	"raw -A PREROUTING -p tcp --dport 81 -j CT --zone 7",
	"raw -A PREROUTING -p tcp --dport 82 --syn -j NOTRACK",
	"mangle -A PREROUTING -j CONNMARK --restore-mark",
	"mangle -A PREROUTING -m mark --mark 1 -j MARK --set-mark 2",
	"mangle -A PREROUTING -m dscp --dscp 8 -j DSCP --set-dscp 0",
	"mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
	"nat -A POSTROUTING -j MASQUERADE --random-fully",
	"nat -A POSTROUTING -j SNAT --to-source 192.0.2.1",
	"nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 80",
	"nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination 192.0.2.2:80",
	"filter -A INPUT -m conntrack --ctstate INVALID -j DROP",
	"filter -A INPUT -m conntrack --ctstatus ASSURED -j ACCEPT",
	"filter -A INPUT -m state --state UNTRACKED -j ACCEPT",
	"filter -A INPUT -p tcp -m tcp --dport 83 -m conntrack --ctstate INVALID,UNTRACKED -j " +
		"SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460",
	"filter -A INPUT -p tcp -m multiport --dports 80,443 -m comment --comment web -j ACCEPT",
	"filter -A INPUT -m limit --limit 10/s -j ACCEPT",
	"filter -A INPUT -p tcp -m hashlimit --hashlimit-name h --hashlimit-mode srcip " +
		"--hashlimit-above 10/s -j DROP",
	"filter -A INPUT -p tcp --syn -m connlimit --connlimit-above 100 -j REJECT --reject-with " +
		"tcp-reset",
	"filter -A INPUT -m connbytes --connbytes 1000: --connbytes-dir both --connbytes-mode bytes " +
		"-j ACCEPT",
	"filter -A INPUT -m connmark --mark 1 -j ACCEPT",
	"filter -A INPUT -m helper --helper ftp -j ACCEPT",
	"filter -A INPUT -m recent --name r --update --seconds 60 -j DROP",
	"filter -A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT",
	"filter -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT",
	"filter -A INPUT -m string --string x --algo bm -j DROP",
	"filter -A INPUT -m u32 --u32 0&0xFF=0 -j DROP",
	"filter -A INPUT -m iprange --src-range 192.0.2.1-192.0.2.9 -j DROP",
	"filter -A INPUT -m length --length 0:40 -j ACCEPT",
	"filter -A INPUT -m ttl --ttl-lt 2 -j DROP",
	"filter -A INPUT -m mac --mac-source 02:00:00:00:00:01 -j DROP",
	"filter -A INPUT -m pkttype --pkt-type broadcast -j DROP",
	"filter -A INPUT -m time --timestart 00:00 --timestop 01:00 -j ACCEPT",
	"filter -A OUTPUT -m owner --uid-owner 0 -j ACCEPT",
	"filter -A INPUT -j LOG --log-prefix x",
	"filter -A INPUT -j NFLOG --nflog-group 1",
	"filter -A INPUT -p udp -j NFQUEUE --queue-num 1 --queue-bypass",
	"filter -A INPUT -p icmp --icmp-type echo-request -j ACCEPT",
	"filter -A FORWARD -j REJECT",
}

// nftVocabulary holds the same for nft.
const nftVocabulary = `table inet v {
	ct timeout short {
		protocol tcp; l3proto ip; policy = { established: 100, close_wait: 4, close: 4 }
	}
	ct helper ftp { type "ftp" protocol tcp; }
	flowtable f { hook ingress priority filter; devices = { lo }; }
	set s { type ipv4_addr; flags dynamic, timeout; timeout 1m; size 1000; }
	map m { type inet_service : ipv4_addr; elements = { 8080 : 192.0.2.2 }; }
	counter c { }
	limit l { rate 10/second; }
	quota q { over 1 mbytes; }
	chain raw { type filter hook prerouting priority raw;
		udp dport 53 notrack
		tcp dport 84 ct zone set 7
		tcp dport 82 tcp flags syn notrack
		fib daddr type broadcast drop
		fib saddr . iif oif missing drop
		socket transparent 1 accept
	}
	chain pre {
		type nat hook prerouting priority dstnat; tcp dport 8080 redirect to :80
		ip protocol tcp dnat ip to tcp dport map @m
	}
	chain post {
		type nat hook postrouting priority srcnat; masquerade random,fully-random
		ip saddr 10.0.0.0/8 snat ip to 192.0.2.1
	}
	chain forward { type filter hook forward priority filter;
		ip protocol tcp flow add @f
		tcp flags syn tcp option maxseg size set rt mtu
		reject with icmpx type admin-prohibited
	}
	chain in { type filter hook input priority filter;
		ct state invalid drop
		ct state untracked accept
		ct state established,related accept
		ct timeout set "short"
		ct helper set "ftp"
		ct mark set meta mark
		ct count over 100 reject with tcp reset
		ct bytes > 1000 counter name "c"
		tcp dport 83 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
		tcp dport { 80, 443 } limit name "l" accept
		limit rate 10/second burst 5 packets accept
		quota name "q" drop
		add @s { ip saddr limit rate over 10/second } drop
		numgen random mod 2 0 log prefix "x" group 1
		jhash ip saddr mod 2 0 log prefix "y"
		queue num 1 bypass
		meta skuid 0 accept
		osf name "Linux" accept
	}
}
`

// TestBootVocabulary applies many rules, for each of which the kernel must find modules by the
// aliases in the index.
func TestBootVocabulary(t *testing.T) {
	t.Parallel()
	var tables strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		tables.WriteString("*" + table + "\n")
		for _, rule := range iptablesVocabulary {
			if rule, ok := strings.CutPrefix(rule, table+" "); ok {
				tables.WriteString(rule + "\n")
			}
		}
		tables.WriteString("COMMIT\n")
	}
	steps := []Step{
		{Args: []string{"iptables-legacy-restore"}, Stdin: tables.String()},
		{Args: []string{"iptables-nft-restore"}, Stdin: tables.String()},
		{Args: []string{"ip6tables-legacy-restore"}, Stdin: statefulRules},
		{Args: []string{"nft", "-f", "-"}, Stdin: nftVocabulary},
		{Args: []string{"iptables-legacy-save"}},
		{Args: []string{"iptables-nft-save"}},
	}
	for _, name := range thoroughKernels() {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			results := boot(t, hostKernelFor(t, name), steps)
			wantOK(t, results...)
			for _, r := range results[4:] {
				if n := strings.Count("\n"+r.Output, "\n-A "); n != len(iptablesVocabulary) {
					t.Errorf("%s gives %d rules of %d:\n%s", r.Step, n, len(iptablesVocabulary),
						r.Output)
				}
			}
		})
	}
}
