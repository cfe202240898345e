package saved

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// table returns n entries of a web server in the words of conntrack -L, without their zone and use.
func table(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	var list []string
	for i := range n {
		client, port := fmt.Sprintf("198.51.100.%d", 1+r.IntN(200)), 1024+r.IntN(60000)
		switch i % 4 {
		case 0, 1:
			list = append(list, fmt.Sprintf("tcp      6 %d TIME_WAIT src=%s dst=192.0.2.1 "+
				"sport=%d dport=443 src=192.0.2.1 dst=%s sport=443 dport=%d [ASSURED] mark=0",
				r.IntN(120), client, port, client, port))
		case 2:
			list = append(list, fmt.Sprintf("udp      17 %d src=192.0.2.1 dst=192.0.2.53 sport=%d "+
				"dport=53 src=192.0.2.53 dst=192.0.2.1 sport=53 dport=%d mark=0",
				r.IntN(30), port, port))
		default:
			list = append(list, fmt.Sprintf("icmp     1 %d src=%s dst=192.0.2.1 type=8 code=0 "+
				"id=%d [UNREPLIED] src=192.0.2.1 dst=%s type=0 code=0 id=%d mark=0",
				r.IntN(30), client, i, client, i))
		}
	}
	return list
}

// TestRead_Decorations reads one table as people save it: the entries are the same each time.
func TestRead_Decorations(t *testing.T) {
	const n = 60
	const prompt = "root@gw:~# "
	plain := table(n)
	text := func(end string) string {
		var b strings.Builder
		for _, s := range plain {
			b.WriteString(s + end + "\n")
		}
		return b.String()
	}
	whole := text(" use=1")
	bare, _, err := Read(File{"bare.txt", []byte(whole)})
	if err != nil {
		t.Fatal(err)
	}
	want := bare.Table.Entries
	if len(want) != n {
		t.Fatalf("%d entries, want %d", len(want), n)
	}
	summary := fmt.Sprintf("conntrack v1.4.7 (conntrack-tools): %d flow entries have been shown.\n",
		n)
	middle := len(whole) / 2
	proc := strings.NewReplacer("\ntcp ", "\nipv4     2 tcp ", "\nudp ", "\nipv4     2 udp ",
		"\nicmp ", "\nipv4     2 icmp ").Replace("\n" + text(" secmark=0 use=2"))
	for _, test := range []struct {
		name  string
		text  string
		scope capture.Scope
	}{
		{"with its summary", whole + summary, capture.Whole},
		{"the summary first", summary + whole, capture.Whole},
		{"the summary in an entry", whole[:middle] + summary + whole[middle:], capture.Whole},
		{"a prompt", prompt + "conntrack -L\n" + whole, capture.Whole},
		{"a prefix", prompt + "sudo conntrack -L 2>/dev/null | head -60\n" + whole, capture.Prefix},
		{"the end of a walk", "$ conntrack -L | tail -60\n" + whole, capture.Prefix},
		{"a selection", prompt + "conntrack -L | grep -v ESTABLISHED\n" + whole, capture.Selection},
		{"an option that selects", prompt + "conntrack -L -f ipv4\n" + whole, capture.Selection},
		{"proc", prompt + "cat /proc/net/nf_conntrack" + proc, capture.Whole},
		{"ids", strings.ReplaceAll(whole, "use=1", "use=1 id=123456"), capture.Unknown},
		{"carriage returns", strings.ReplaceAll(whole, "\n", "\r\n"), capture.Unknown},
		{"quoted", "> " + strings.ReplaceAll(whole, "\n", "\n> "), capture.Unknown},
		{"quoted without blanks", ">" + strings.ReplaceAll(whole, "\n", "\n>"), capture.Unknown},
		{"colours",
			strings.ReplaceAll(whole, "TIME_WAIT", "\x1b[01;31m\x1b[KTIME_WAIT\x1b[m\x1b[K"),
			capture.Unknown},
		{"wrapped", wrapped(whole, 76), capture.Unknown},
		{"wrapped ids", wrapped(strings.ReplaceAll(whole, "use=1", "use=1 id=12"), 60),
			capture.Unknown},
		{"no-break spaces", strings.ReplaceAll(whole, " ", "\u00a0"), capture.Unknown},
		{"a byte order mark", "\ufeff" + whole, capture.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, report, err := Read(File{"saved.txt", []byte(test.text)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, c.Table.Entries, cmp.Comparer(sameEntry)); diff != "" {
				t.Errorf("other entries:\n%s", diff)
			}
			if c.Table.Scope != test.scope || c.Table.Cut > 0 || len(report.Unread) > 0 {
				t.Errorf("scope %q, want %q; %d cut, not understood: %+v",
					c.Table.Scope, test.scope, c.Table.Cut, report.Unread)
			}
		})
	}
}

func sameEntry(a, b capture.Entry) bool { return a == b }

// wrapped breaks lines at blanks, as a mailer does.
func wrapped(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		column := 0
		for i, word := range strings.Fields(line) {
			switch {
			case i == 0:
			case column+1+len(word) > width:
				b.WriteByte('\n')
				column = 0
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += len(word)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestRead_CutEnd cuts a listing at each byte of its last entries: whole entries stay, and the rest
// of a cut one is reported.
func TestRead_CutEnd(t *testing.T) {
	lines := table(8)
	text := strings.Join(lines, " use=1\n") + " use=1\n"
	begin := len(strings.Join(lines[:6], " use=1\n"))
	for end := begin; end < len(text); end++ {
		c, _, err := Read(File{"cut.txt", []byte(text[:end])})
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.Count(text[:end], "use=1")
		if n := len(c.Table.Entries); n != whole {
			t.Errorf("cut at %d: %d entries, want %d", end, n, whole)
		}
	}
}

func value(n int64) *int64 { return &n }

func TestRead_Parts(t *testing.T) {
	for _, test := range []struct {
		name string
		text string
		want capture.Capture
	}{
		{
			"names of 2.6.18", "# sysctl -a | grep conntrack\n" +
				"net.ipv4.netfilter.ip_conntrack_max = 65536\n" +
				"net.ipv4.netfilter.ip_conntrack_buckets = 8192\n",
			capture.Capture{Sizes: capture.Sizes{Max: value(65536), Buckets: value(8192)},
				Settings: map[string]string{"net.netfilter.nf_conntrack_max": "65536",
					"net.netfilter.nf_conntrack_buckets": "8192"}},
		}, {
			"numbers by braces",
			"$ cat /proc/sys/net/netfilter/nf_conntrack_{count,max,buckets}\n" +
				"100\n4096\n1024\n",
			capture.Capture{Sizes: capture.Sizes{
				Count: value(100), Max: value(4096), Buckets: value(1024)},
				Settings: map[string]string{"net.netfilter.nf_conntrack_count": "100",
					"net.netfilter.nf_conntrack_max":     "4096",
					"net.netfilter.nf_conntrack_buckets": "1024"}},
		}, {
			"conntrack -C", "$ conntrack -C\n4711\n",
			capture.Capture{Sizes: capture.Sizes{Count: value(4711)},
				Settings: map[string]string{"net.netfilter.nf_conntrack_count": "4711"}},
		}, {
			"counters twice", "# conntrack -S; sleep 5; conntrack -S\n" +
				"cpu=0 found=1 invalid=2 drop=10 early_drop=0\n" +
				"cpu=1 found=1 invalid=2 drop=5 early_drop=1\n" +
				"cpu=0 found=1 invalid=2 drop=20 early_drop=0\n" +
				"cpu=1 found=1 invalid=2 drop=5 early_drop=3\n",
			capture.Capture{Counters: []capture.Counters{
				{CPUs: 2, Sum: map[string]int64{
					"found": 2, "invalid": 4, "drop": 15, "early_drop": 1}},
				{CPUs: 2, Seconds: 5, Sum: map[string]int64{
					"found": 2, "invalid": 4, "drop": 25, "early_drop": 3}},
			}},
		}, {
			"counters of conntrack 0.9",
			"entries  \t\t 5\nsearched \t\t 9\ndrop \t\t 3\nearly_drop 4\n",
			capture.Capture{Sizes: capture.Sizes{Count: value(5)}, Counters: []capture.Counters{
				{CPUs: 1, FirstCPU: true, Sum: map[string]int64{
					"searched": 9, "drop": 3, "early_drop": 4}},
			}},
		}, {
			"hexadecimal counters",
			"entries  clashres found new invalid ignore delete chainlength insert " +
				"insert_failed drop\n" +
				"0000000a  00000001 00000002 00000000 00000010 00000000 00000000 00000000 " +
				"00000000 0000001f 00000003\n" +
				"0000000a  00000001 00000002 00000000 00000010 00000000 00000000 00000000 " +
				"00000000 00000001 00000003\n",
			capture.Capture{Sizes: capture.Sizes{Count: value(10)}, Counters: []capture.Counters{
				{CPUs: 2, Sum: map[string]int64{"clashres": 2, "found": 4, "new": 0, "invalid": 32,
					"ignore": 0, "delete": 0, "chainlength": 0, "insert": 0, "insert_failed": 32,
					"drop": 6}},
			}},
		}, {
			"the log of today",
			"[100.000000] nf_conntrack: nf_conntrack: table full, dropping packet\n" +
				"[105.500000] net_ratelimit: 40 callbacks suppressed\n" +
				"[106.000000] nf_conntrack: nf_conntrack: table full, dropping packet\n",
			capture.Capture{Log: capture.Log{
				Read: true, TableFull: 2, Suppressed: 40, Suppressions: 1, Seconds: 6}},
		}, {
			"the log of 2.6.18",
			"Mar 14 03:07:41 web1 kernel: ip_conntrack: table full, dropping packet.\n" +
				"Mar 14 03:07:46 web1 kernel: printk: 152 messages suppressed.\n",
			capture.Capture{Log: capture.Log{
				Read: true, TableFull: 1, Suppressed: 152, Suppressions: 1, Seconds: 5}},
		}, {
			"another table", "[1.0] nf_conntrack: expectation table full\n" +
				"[2.0] neighbour: arp_cache: neighbor table overflow!\n",
			capture.Capture{Log: capture.Log{Read: true, ExpectFull: 1, Neighbour: 1, Seconds: 1}},
		}, {
			"states counted on the host",
			"# conntrack -L 2>/dev/null | awk '{print $4}' | sort | uniq -c\n" +
				"     10 TIME_WAIT\n      3 src=192.0.2.1\n      4 src=192.0.2.2\n",
			capture.Capture{Table: capture.Table{
				States: map[string]int64{"TIME_WAIT": 10}, Stateless: 7}},
		}, {
			"rules", "# iptables-save\n*raw\n:PREROUTING ACCEPT [0:0]\n" +
				"-A PREROUTING -j CT --notrack\nCOMMIT\n" +
				"# nft list ruleset\ntable inet t {\n\tchain c {\n\t\tct state new drop\n\t}\n}\n",
			capture.Capture{Rules: capture.Rules{
				IPv4: "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j CT --notrack\nCOMMIT\n",
				NFT:  "table inet t {\n\tchain c {\n\t\tct state new drop\n\t}\n}\n"}},
		}, {
			"expectations",
			"137 l3proto = 2 proto=17 src=203.0.113.6 dst=198.51.100.20 sport=0 dport=1 " +
				"PERMANENT,INACTIVE sip/signalling\n" +
				"137 proto=17 src=203.0.113.6 dst=198.51.100.20 sport=0 dport=1 " +
				"mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 " +
				"master-src=10.60.2.24\n" +
				"conntrack v1.4.6 (conntrack-tools): 1 expectations have been shown.\n",
			capture.Capture{Expectations: []capture.Expectation{
				{Left: 137, Helper: "sip", Class: "signalling", Permanent: true, Inactive: true}}},
		}, {
			"the kernel and other counters", "$ uname -r\n5.15.0-91-generic\n$ nstat -az\n" +
				"UdpRcvbufErrors                 48213              0.0\n",
			capture.Capture{Kernel: "5.15.0-91-generic",
				Network: map[string]int64{"UdpRcvbufErrors": 48213}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, report, err := Read(File{"saved.txt", []byte(test.text)})
			if err != nil {
				t.Fatal(err)
			}
			test.want.Schema = capture.SchemaVersion
			if diff := cmp.Diff(test.want, *c); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if len(report.Unread) > 0 {
				t.Errorf("not understood: %+v", report.Unread)
			}
		})
	}
}

func TestRead_Nothing(t *testing.T) {
	for _, text := range []string{"", "hello\nworld\n", strings.Repeat("\x00", 1000)} {
		if _, _, err := Read(File{"x", []byte(text)}); err == nil {
			t.Errorf("%.20q is read as a capture", text)
		}
	}
}

// TestRead_Sockets takes what ss -s of old and of new versions tells of the host's own connections.
func TestRead_Sockets(t *testing.T) {
	for text, want := range map[string]capture.Sockets{
		"$ ss -s\nTotal: 178\nTCP:   1102 (estab 43, closed 1051, orphaned 2, synrecv 0, " +
			"timewait 1047/0), ports 0\nTransport Total     IP        IPv6\nUDP\t  9         5" +
			"         4\n": {TCP: 51, TimeWait: 1047, Orphaned: 2, UDP: 9},
		"$ ss -s\nTCP:   12 (estab 3, closed 4, orphaned 0, timewait 1)\n": {TCP: 8, TimeWait: 1},
	} {
		c, _, err := Read(File{"ss.txt", []byte(text)})
		if err != nil || len(c.Sockets) != 1 || c.Sockets[0] != want {
			t.Errorf("%v: %+v, want %+v, of %s", err, c, want, text)
		}
	}
}

// TestSets reads the header of ipset list.
func TestSets(t *testing.T) {
	got := Sets("Name: blocked\nType: hash:net\nNumber of entries: 17\n\nName: none\n" +
		"Number of entries: x\n")
	if len(got) != 1 || got["blocked"] != 17 {
		t.Errorf("%v", got)
	}
}

// FuzzSets reads any listing.
func FuzzSets(f *testing.F) {
	f.Add("Name: a\nNumber of entries: 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name := range Sets(text) {
			if name == "" {
				t.Errorf("a set without a name in %q", text)
			}
		}
	})
}

// FuzzRead reads any text: it neither panics nor keeps an entry without addresses.
func FuzzRead(f *testing.F) {
	f.Add(strings.Join(table(4), " use=1\n"))
	f.Add("$ conntrack -S\ncpu=0 drop=1\n")
	f.Add("*filter\n-A INPUT -j DROP\n# nft list ruleset\ntable ip x {\n")
	f.Add("$ ss -s\nTCP: 12 (estab 3, closed 4, orphaned 0, timewait 1)\nUDP\t9 5 4\n")
	f.Add("1 l3proto = 2 proto=17 src=192.0.2.1 dst=192.0.2.2 sip/audio\n")
	f.Add("[ 1.5] nf_conntrack: table full, dropping packet\n__ratelimit: 3 callbacks suppressed")
	f.Add("$ awk '{print $4}' | sort | uniq -c\n 12 TIME_WAIT\n$ nstat\nUdpInErrors 3 0.0\n")
	f.Add("entries a b c d e f g h i\n00000000 00000000\n")
	f.Add("> $ cat /proc/sys/net/netfilter/nf_conntrack_{a,b{c,d}}\n> 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := Read(File{"fuzz", []byte(text)})
		if err != nil {
			return
		}
		for _, e := range c.Table.Entries {
			if !e.Original.Source.IsValid() || !e.Reply.Destination.IsValid() {
				t.Errorf("entry %+v", e)
			}
		}
	})
}

// TestRead_WriteUp reads outputs in a write-up whose translation has changed capitals and blanks;
// prose that quotes a message is no line of the log.
func TestRead_WriteUp(t *testing.T) {
	const text = `How we met nf_conntrack: table full, dropping packet and what it means
nf_conntrack: table full, dropping packet问题的解决思路
In the log of the shop we saw
Nf_conntrack: Table full, dropping Packet
VI/etc/sysctl. conf
Net. ipv4.netfilter. ip_conntrack_tcp_timeout_established = 900
Net. ipv4.ip _ conntrack_max = 65000
[Root @ shop HTML] # WC-L/proc/NET/ip_conntrack
4211/proc/NET/ip_conntrack
After the cure
[Root @ shop HTML] # WC-L/proc/NET/ip_conntrack
2/proc/NET/ip_conntrack
[Root @ shop HTML] # Cat/proc/NET/ip_conntrack
TCP 6 899 established src = 192.0.2.7 DST = 192.0.2.1 sport = 22 dport = 50001 src = 192.0.2.1 ` +
		`DST = 192.0.2.7 sport = 50001 dport = 22 [assured] use = 1
`
	c, _, err := Read(File{Name: "story.txt", Text: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.TableFull != 1 || c.Table.Whole != 1 || *c.Sizes.Count != 4211 ||
		*c.Sizes.Max != 65000 ||
		c.Settings[kernels.Prefix+"tcp_timeout_established"] != "900" {
		t.Errorf("log %+v, whole %d, settings %v", c.Log, c.Table.Whole, c.Settings)
	}
	if e := c.Table.Entries; len(e) != 1 || e[0].State != "ESTABLISHED" || e[0].Left != 899 ||
		!e[0].Assured {
		t.Errorf("%+v", e)
	}
}

// TestRead_Slabs takes the number of entries from /proc/slabinfo.
func TestRead_Slabs(t *testing.T) {
	for line, want := range map[string]int64{
		"ip_conntrack       38358  64324    304   13    1 : tunables   54   27    8": 38358,
		"nf_conntrack_ffffffff81aa0000 512 600 320 12 1 : tunables 0 0 0 : slabdata": 512,
	} {
		c, _, err := Read(File{Name: "slabs.txt", Text: []byte(
			"# grep conntrack /proc/slabinfo\nnf_conntrack_expect 7 9 240 17 1 : tunables 0 0 0\n" +
				line + "\n")})
		if err != nil || c.Sizes.Count == nil || *c.Sizes.Count != want {
			t.Errorf("%s: %v, %+v", line, err, c)
		}
	}
}
