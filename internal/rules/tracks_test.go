package rules_test

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
	"github.com/ctload/ctload/internal/rules"
)

// vocabulary has a rule for each match and target of iptables that the kernel knows, in a chain
// that no packet meets: the kernel registers the hooks when it checks the rule.
var vocabulary = map[string]struct {
	table     string // filter where it is empty
	rule      string // the words after the chain; %s is a host of the family
	four, six string // in place of rule where the families differ
	unasked   string // why the kernel cannot be asked
}{
	"m addrtype": {rule: "-m addrtype --dst-type LOCAL"},
	"m ah":       {four: "-p ah -m ah --ahspi 1", six: "-m ah --ahspi 1"},
	"m bpf":      {rule: `-m bpf --bytecode "1,6 0 0 1"`},
	"m cgroup":   {rule: "-m cgroup --cgroup 1"},
	"m cluster": {
		rule: "-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed " +
			"0xdeadbeef",
	},
	"m comment": {rule: `-m comment --comment "-m state -j SNAT"`},
	"m connbytes": {
		rule: "-m connbytes --connbytes 1000: --connbytes-dir both --connbytes-mode bytes",
	},
	"m connlabel": {rule: "-m connlabel --label 5"},
	"m connlimit": {rule: "-m connlimit --connlimit-above 10"},
	"m connmark":  {rule: "-m connmark --mark 1"},
	"m conntrack": {rule: "-m conntrack --ctproto tcp"},
	"m cpu":       {rule: "-m cpu --cpu 0"},
	"m dccp":      {rule: "-p dccp -m dccp --dport 9"},
	"m devgroup":  {rule: "-m devgroup --src-group 1"},
	"m dscp":      {rule: "-m dscp --dscp 8"},
	"m dst":       {rule: "-m dst --dst-len 8"},
	"m ecn":       {rule: "-p tcp -m ecn --ecn-tcp-ece"},
	"m esp":       {rule: "-p esp -m esp --espspi 1"},
	"m eui64":     {rule: "-m eui64"},
	"m frag":      {rule: "-m frag --fragid 1"},
	"m hashlimit": {
		rule: "-m hashlimit --hashlimit-name h --hashlimit-mode srcip --hashlimit-above 10/s",
	},
	"m hbh":    {rule: "-m hbh --hbh-len 8"},
	"m helper": {rule: "-m helper --helper ftp"},
	"m hl":     {rule: "-m hl --hl-lt 2"},
	"m icmp":   {rule: "-p icmp -m icmp --icmp-type redirect"},
	"m icmp6":  {rule: "-p icmpv6 -m icmp6 --icmpv6-type echo-request"},
	"m ipcomp": {rule: "-p ipcomp -m ipcomp --ipcompspi 1"},
	"m iprange": {
		four: "-m iprange --src-range 192.0.2.1-192.0.2.9",
		six:  "-m iprange --src-range 2001:db8::1-2001:db8::9",
	},
	"m ipv6header": {rule: "-m ipv6header --header frag --soft"},
	"m l2tp":       {unasked: "iptables 1.8 of Debian has no library for it"},
	"m length":     {rule: "-m length --length 0:40"},
	"m limit":      {rule: "-m limit --limit 10/s"},
	"m mac":        {rule: "-m mac --mac-source 02:00:00:00:00:01"},
	"m mark":       {rule: "-m mark --mark 1"},
	"m mh":         {rule: "-p mh -m mh --mh-type 1"},
	"m multiport":  {rule: "-p tcp -m multiport --dports 80,443"},
	"m nfacct":     {unasked: "its object needs a program of its own, nfacct"},
	"m osf":        {rule: "-p tcp -m osf --genre Linux"},
	"m owner":      {rule: "-m owner --uid-owner 0"},
	"m physdev":    {rule: "-m physdev --physdev-in x"},
	"m pkttype":    {rule: "-m pkttype --pkt-type broadcast"},
	"m policy":     {rule: "-m policy --dir in --pol none"},
	"m quota":      {rule: "-m quota --quota 1000"},
	"m rateest": {
		table: "mangle",
		rule: "-j RATEEST --rateest-name r --rateest-interval 250ms --rateest-ewmalog 500ms\n" +
			"-A X -m rateest --rateest r --rateest-gt --rateest-bps1 1mbit",
	},
	"m realm":     {rule: "-m realm --realm 1"},
	"m recent":    {rule: "-m recent --name r --set"},
	"m rpfilter":  {table: "raw", rule: "-m rpfilter"},
	"m rt":        {rule: "-m rt --rt-type 0"},
	"m sctp":      {rule: "-p sctp -m sctp --dport 9"},
	"m set":       {rule: "-m set --match-set friends src"},
	"m socket":    {table: "mangle", rule: "-m socket --transparent"},
	"m srh":       {rule: "-m srh --srh-segs-left-eq 1"},
	"m state":     {rule: "-m state --state NEW"},
	"m statistic": {rule: "-m statistic --mode random --probability 0.5"},
	"m string":    {rule: `-m string --string "-j MASQUERADE" --algo bm`},
	"m tcp":       {rule: "-p tcp -m tcp --syn"},
	"m tcpmss":    {rule: "-p tcp -m tcpmss --mss 1:500"},
	"m time":      {rule: "-m time --timestart 00:00 --timestop 01:00"},
	"m tos":       {rule: "-m tos --tos 0x10"},
	"m ttl":       {rule: "-m ttl --ttl-lt 2"},
	"m u32":       {rule: `-m u32 --u32 "0&0xFF=0"`},
	"m udp":       {rule: "-p udp -m udp --dport 53"},
	"m udplite":   {unasked: "iptables has no library for it"},

	"j AUDIT":       {rule: "-j AUDIT --type drop"},
	"j CHECKSUM":    {table: "mangle", rule: "-p udp -j CHECKSUM --checksum-fill"},
	"j CLASSIFY":    {table: "mangle", rule: "-j CLASSIFY --set-class 1:1"},
	"j CLUSTERIP":   {unasked: "gone since Linux 6.3, and refused over nf_tables"},
	"j CONNMARK":    {table: "mangle", rule: "-j CONNMARK --save-mark"},
	"j CONNSECMARK": {table: "mangle", rule: "-j CONNSECMARK --save"},
	"j CT":          {table: "raw", rule: "-p udp -j CT --zone 1"},
	"j DNAT":        {table: "nat", rule: "-j DNAT --to-destination %s"},
	"j DNPT": {
		table: "mangle", rule: "-j DNPT --src-pfx 2001:db8::/64 --dst-pfx 2001:db8:1::/64",
	},
	"j DSCP":  {table: "mangle", rule: "-j DSCP --set-dscp 0"},
	"j ECN":   {table: "mangle", rule: "-p tcp -j ECN --ecn-tcp-remove"},
	"j ERROR": {unasked: "the kernel's own"},
	"j HL":    {table: "mangle", rule: "-j HL --hl-set 9"},
	"j HMARK": {
		table: "mangle",
		rule:  "-j HMARK --hmark-tuple src --hmark-mod 2 --hmark-offset 1 --hmark-rnd 1",
	},
	"j IDLETIMER":  {rule: "-j IDLETIMER --timeout 9 --label x"},
	"j LOG":        {rule: `-j LOG --log-prefix "-j CT "`},
	"j MARK":       {table: "mangle", rule: "-j MARK --set-mark 2"},
	"j MASQUERADE": {table: "nat", rule: "-j MASQUERADE --random-fully"},
	"j NETMAP": {
		table: "nat", four: "-j NETMAP --to 192.0.2.0/24", six: "-j NETMAP --to 2001:db8::/64",
	},
	"j NFLOG":   {rule: "-j NFLOG --nflog-group 1"},
	"j NFQUEUE": {rule: "-j NFQUEUE --queue-num 1"},
	"j NOTRACK": {table: "raw", rule: "-p tcp -j NOTRACK"},
	"j RATEEST": {
		table: "mangle",
		rule:  "-j RATEEST --rateest-name r --rateest-interval 250ms --rateest-ewmalog 500ms",
	},
	"j REDIRECT": {table: "nat", rule: "-p tcp -j REDIRECT --to-ports 80"},
	"j REJECT":   {rule: "-p tcp -j REJECT --reject-with tcp-reset"},
	"j SECMARK":  {unasked: "only a kernel with SELinux takes it"},
	"j SET":      {rule: "-j SET --add-set friends src"},
	"j SNAT":     {table: "nat", rule: "-j SNAT --to-source %s"},
	"j SNPT": {
		table: "mangle", rule: "-j SNPT --src-pfx 2001:db8::/64 --dst-pfx 2001:db8:1::/64",
	},
	"j SYNPROXY": {rule: "-p tcp -m tcp --syn -j SYNPROXY --sack-perm --mss 1460"},
	"j TCPMSS": {
		table: "mangle",
		rule:  "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
	},
	"j TCPOPTSTRIP": {table: "mangle", rule: "-p tcp -j TCPOPTSTRIP --strip-options timestamp"},
	"j TEE":         {table: "mangle", rule: "-j TEE --gateway %s"},
	"j TOS":         {table: "mangle", rule: "-j TOS --set-tos 0x10"},
	"j TPROXY":      {table: "mangle", rule: "-p tcp -j TPROXY --on-port 1 --on-ip %s"},
	"j TRACE":       {table: "raw", rule: "-j TRACE"},
	"j TTL":         {table: "mangle", rule: "-j TTL --ttl-set 9"},

	"CT --notrack":      {table: "raw", rule: "-p tcp -j CT --notrack"},
	"CT --helper":       {table: "raw", rule: "-p tcp --dport 21 -j CT --helper ftp"},
	"nat, no target":    {table: "nat", rule: "-p tcp -j RETURN"},
	"match cut short":   {rule: "--matc state --state NEW --jum ACCEPT"},
	"match in one word": {rule: "-mconntrack --ctstate=NEW -j ACCEPT"},
}

// TestTracks asks the kernel, for each match and target of iptables that it has and for each
// statement of nft, whether a rule with it makes the kernel track connections, in each family.
func TestTracks(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	var unasked []string
	for _, family := range []string{rules.IPv4, rules.IPv6} {
		for _, backend := range []string{"nft", "legacy"} {
			unasked = append(unasked, askIptables(t, family, backend)...)
		}
	}
	unasked = append(unasked, askNFT(t)...)
	slices.Sort(unasked)
	t.Logf("not asked:\n%s", strings.Join(slices.Compact(unasked), "\n"))
}

// askIptables asks about the vocabulary of iptables and returns what the kernel could not be asked.
func askIptables(t *testing.T, family, backend string) (unasked []string) {
	t.Helper()
	tool, host := "iptables", "192.0.2.9"
	if family == rules.IPv6 {
		tool, host = "ip6tables", "2001:db8::9"
	}
	has := has(t, family)
	for _, name := range has {
		if _, ok := vocabulary[name]; !ok {
			t.Errorf("%s: the kernel has %q, and the test has no rule for it", family, name)
		}
	}
	asked := 0
	for name, v := range vocabulary {
		rule := map[string]string{rules.IPv4: v.four, rules.IPv6: v.six}[family]
		if rule == "" {
			rule = v.rule
		}
		extension := strings.HasPrefix(name, "m ") || strings.HasPrefix(name, "j ")
		known := slices.Contains(has, name) || !extension
		if rule == "" || !known && len(has) > 0 {
			why := cmp.Or(v.unasked, "this kernel does not have it in this family")
			unasked = append(unasked, fmt.Sprintf("%s %s: %s", tool, name, why))
			continue
		}
		text := fmt.Sprintf("*%s\n:X - [0:0]\n-A X %s\nCOMMIT\n",
			cmp.Or(v.table, "filter"), strings.ReplaceAll(rule, "%s", host))
		tracked, said := ask(t, text, tool+"-"+backend+"-restore")
		if said != "" {
			t.Errorf("%s-%s: %s: %s", tool, backend, rule, said)
			continue
		}
		asked++
		read := rules.Iptables(family, text)
		if len(read.Problems) > 0 {
			t.Errorf("%s: %v", rule, read.Problems)
		}
		judge(t, tool+"-"+backend+": "+rule, read, tracked)
	}
	t.Logf("%s-%s: asked about %d rules", tool, backend, asked)
	return unasked
}

// judge compares what a text says with what the kernel did.
func judge(t *testing.T, name string, read rules.Ruleset, tracked map[string]bool) {
	t.Helper()
	for _, family := range []string{rules.IPv4, rules.IPv6} {
		if cause := read.Tracks(family); (cause != nil) != tracked[family] {
			t.Errorf("%s: the kernel tracks %s: %v; read: %+v",
				name, family, tracked[family], cause)
		}
	}
}

// has lists the matches and targets that the kernel has for a family, as "m state" and "j SNAT";
// none where it hides them.
func has(t *testing.T, family string) []string {
	t.Helper()
	var names []string
	in(t, func() {
		for file, prefix := range map[string]string{"matches": "m ", "targets": "j "} {
			tables := map[string]string{rules.IPv4: "ip_tables_", rules.IPv6: "ip6_tables_"}[family]
			text, err := os.ReadFile("/proc/thread-self/net/" + tables + file)
			if err != nil {
				t.Logf("the kernel hides its %s: %v", file, err)
				return
			}
			for name := range strings.FieldsSeq(string(text)) {
				names = append(names, prefix+name)
			}
		}
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// ask loads a text in a network namespace made for it, and returns the families of which the kernel
// then makes an entry for a datagram; or what the tool said when it refused the text.
func ask(t *testing.T, text, tool string, args ...string) (tracked map[string]bool, said string) {
	t.Helper()
	path := hosttest.Program(t, tool)
	tracked = map[string]bool{}
	in(t, func() {
		if strings.Contains(text, "-set friends") {
			options := netlink.IpsetCreateOptions{Family: unix.AF_INET}
			if strings.HasPrefix(tool, "ip6") {
				options.Family = unix.AF_INET6
			}
			if err := netlink.IpsetCreate("friends", "hash:ip", options); err != nil {
				said = fmt.Sprintf("make a set: %v", err)
				return
			}
		}
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			said = strings.TrimSpace(string(out) + " " + err.Error())
			return
		}
		for family, address := range map[string]string{
			rules.IPv4: "127.0.0.1:4242", rules.IPv6: "[::1]:4242",
		} {
			before := entries(t)
			conn, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			_, err = conn.Write([]byte("x"))
			if err = errors.Join(err, conn.Close()); err != nil {
				t.Fatal(err)
			}
			tracked[family] = entries(t) > before
		}
	})
	return tracked, said
}

// entries returns the number of entries of the calling thread's network namespace.
func entries(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if errors.Is(err, os.ErrNotExist) {
		return 0 // connection tracking is not loaded
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// in calls a function on a thread in a network namespace of its own, with loopback up. The thread
// ends with it.
func in(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace: %v", err)
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Errorf("set loopback up: %v", err)
			return
		}
		f()
	}()
	<-done
}

// statements lists what nft accepts in a table: rules of a chain without a hook, and objects. ADDR
// is a condition on the source of the family.
var statements = []string{
	"chain c { ct state new; }",
	"chain c { ct direction original; }",
	"chain c { ct status assured; }",
	"chain c { ct mark 1; }",
	"chain c { ct label 1; }",
	`chain c { ct helper "ftp"; }`,
	"chain c { ct l3proto ipv4; }",
	"chain c { ct original protocol 6; }",
	"chain c { ct original ip saddr 192.0.2.1; }",
	"chain c { ct original ip6 saddr 2001:db8::1; }",
	"chain c { meta l4proto tcp ct reply proto-dst 80; }",
	"chain c { ct expiration 1s; }",
	"chain c { ct bytes > 1000; }",
	"chain c { ct original packets > 3; }",
	"chain c { ct avgpkt > 1000; }",
	"chain c { ct zone 1; }",
	"chain c { ct id 1; }",
	"chain c { ct mark set 1; }",
	"chain c { ct mark set meta mark; }",
	"chain c { meta mark set ct mark; }",
	"chain c { ct label set 1; }",
	"chain c { ct event set new; }",
	"chain c { ct count over 10 drop; }",
	"chain c { ct state vmap { established : accept, invalid : drop }; }",
	"chain c { tcp dport 5 jump { ct state new drop; }; }",
	"chain c { type filter hook prerouting priority raw; tcp dport 9 ct zone set 1; }",
	"chain c { type filter hook prerouting priority raw; tcp dport 9 notrack; }",
	"chain c { type filter hook output priority raw; tcp dport 9 notrack; }",
	"chain c { type nat hook prerouting priority dstnat; }",
	"chain c { type nat hook postrouting priority srcnat; tcp dport 9 masquerade; }",
	"chain c { type nat hook postrouting priority srcnat; tcp dport 9 snat to ADDRESS; }",
	"chain c { type nat hook prerouting priority dstnat; tcp dport 9 dnat to ADDRESS; }",
	"chain c { type nat hook prerouting priority dstnat; tcp dport 9 redirect to :80; }",
	"chain c { type filter hook input priority 0; tcp dport 9 synproxy mss 1460 wscale 7; }",
	"chain c { type filter hook prerouting priority mangle; tcp dport 9 tproxy to :9; }",
	"chain c { type filter hook prerouting priority mangle; socket transparent 1; }",
	"flowtable f { hook ingress priority 0; devices = { lo }; }; " +
		"chain c { type filter hook forward priority 0; flow add @f; }",
	"ct helper h { type \"ftp\" protocol tcp; }",
	"ct timeout o { protocol tcp; policy = { close : 1 }; }",
	"ct expectation e { protocol tcp; dport 9876; timeout 2m; size 12; }",
	"synproxy s { mss 1460; wscale 7; }",
	"ct helper h { type \"ftp\" protocol tcp; }; chain c { tcp dport 21 ct helper set \"h\"; }",
	"set s { type inet_service; flags dynamic; }; " +
		"chain c { tcp dport 5 add @s { tcp sport ct count over 3 } drop; }",
	"set s { type inet_service; flags dynamic; ct count over 3; }",
	"set s { typeof ct mark; }",
	"set s { type mark; elements = { 1, 2 }; }",
	"map m { type inet_service : verdict; elements = { 22 : accept }; }",
	"counter n { packets 0 bytes 0; }; chain c { counter name \"n\"; }",
	"quota q { over 10 mbytes; }; limit l { rate 10/second; }",
	"chain ctx { }; chain c { jump ctx; }",
	"chain c { log prefix \"ct state new\" comment \"snat\"; }",
	"chain c { icmp type redirect; }",
	"chain c { icmpv6 type { nd-redirect, echo-request }; }",
	"chain c { ADDR tcp dport 80 accept; }",
	"chain c { tcp flags & (syn | ack) == syn limit rate 10/second accept; }",
	"chain c { meta l4proto { tcp, udp } th dport 53 counter; }",
	"chain c { meta mark set numgen inc mod 2; }",
	"chain c { meta mark set jhash tcp dport mod 2; }",
	"chain c { fib saddr type local; }",
	"chain c { rt classid 1; }",
	"chain c { meta nftrace set 1; }",
	"chain c { tcp option maxseg size set 1000; }",
	"chain c { tcp dport set 80; }",
	"chain c { @th,16,16 80; }",
	"chain c { osf name \"Linux\"; }",
	"chain c { type filter hook input priority 0; tcp dport 9 reject with tcp reset; }",
	"chain c { type filter hook input priority 0; tcp dport 9 queue num 1; }",
	"chain c { type filter hook input priority 0; tcp dport 9 dup to ADDRESS; }",
	"chain c { meta secmark set ct secmark; }",
	"chain c { type nat hook postrouting priority srcnat; tcp dport 9 snat ip to 192.0.2.9; }",
	"chain c { type nat hook prerouting priority dstnat; dnat ip6 to [2001:db8::9]:80; }",
	"chain c { meta ipsec exists; }",
	"chain c { exthdr frag exists; }",
}

// askNFT asks about the statements of nft in tables of each family.
func askNFT(t *testing.T) (unasked []string) {
	t.Helper()
	asked := map[string]int{}
	for _, family := range []string{"ip", "ip6", "inet", "bridge", "arp", "netdev"} {
		for _, statement := range statements {
			condition, address := "ip saddr 192.0.2.1", "192.0.2.9"
			if family == "ip6" {
				condition, address = "ip6 saddr 2001:db8::1", "2001:db8::9"
			}
			body := strings.NewReplacer("ADDRESS", address, "ADDR", condition).Replace(statement)
			text := "table " + family + " t {\n" + body + "\n}\n"
			tracked, said := ask(t, text, "nft", "-f", "-")
			if said != "" {
				reason, _, _ := strings.Cut(said, "\n")
				if strings.Contains(reason, "syntax error") {
					t.Errorf("nft: %s: %s", body, reason)
				}
				reason = strings.TrimPrefix(reason, "/dev/stdin:")
				why := fmt.Sprintf("nft, family %s: %s: %s", family, body, reason)
				unasked = append(unasked, why)
				continue
			}
			asked[family]++
			read := rules.NFT(text)
			if len(read.Problems) > 0 {
				t.Errorf("%s: %v", text, read.Problems)
			}
			judge(t, text, read, tracked)
		}
	}
	t.Logf("nft: asked about %v of %d statements", asked, len(statements))
	for _, family := range []string{"ip", "ip6", "inet"} {
		if asked[family] < len(statements)*2/3 {
			t.Errorf("nft refuses most statements in family %s", family)
		}
	}
	return unasked
}
