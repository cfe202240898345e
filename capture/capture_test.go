package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestPseudonyms_Text replaces the texts that identify a host, and nothing else.
func TestPseudonyms_Text(t *testing.T) {
	p, err := NewPseudonyms(false)
	if err != nil {
		t.Fatal(err)
	}
	server := p.Address(netip.MustParseAddr("203.0.113.1")).String()
	six := p.Address(netip.MustParseAddr("2001:db8:7::1")).String()
	for _, test := range []struct{ given, want string }{
		{"-A FORWARD -s 203.0.113.1/32 -j DROP", "-A FORWARD -s " + server + " -j DROP"},
		{"--to-destination 203.0.113.1:80-90", "--to-destination " + server + ":80-90"},
		{"-j SNAT --to-source 203.0.113.1-203.0.113.14", "-j SNAT --to-source " + server},
		{"ip6 saddr 2001:db8:7::1 drop", "ip6 saddr " + six + " drop"},
		{"dnat ip6 to [2001:db8:7::1]:443", "dnat ip6 to [" + six + "]:443"},
		{"-s 127.0.0.0/8 -i lo -j CT --notrack", "-s 127.0.0.0/8 -i lo -j CT --notrack"},
		{"-s 0.0.0.0/0 -j ACCEPT", "-s 0.0.0.0/0 -j ACCEPT"},
		{":FORWARD ACCEPT [51201883:3901244120]", ":FORWARD ACCEPT [51201883:3901244120]"},
		{"--probability 0.2000001 --dport 1:65535", "--probability 0.2000001 --dport 1:65535"},
		{`-m comment --comment "shop of \"Ann\"" -j ACCEPT`, " -j ACCEPT"},
		{"-m comment --comment ann -j ACCEPT", " -j ACCEPT"},
		{`tcp dport 22 accept comment "ann's laptop"`, "tcp dport 22 accept"},
		{`-j LOG --log-prefix "ann: "`, `-j LOG --log-prefix "x"`},
		{`log prefix "ann: " drop`, `log prefix "x" drop`},
		{"-m mac --mac-source 52:54:00:aa:bb:cc", "-m mac --mac-source 02:00:00:00:00:00"},
		{"# Generated on ann's host\n*raw", "*raw"},
	} {
		if got := p.Text(test.given); got != test.want {
			t.Errorf("%s: %q, want %q", test.given, got, test.want)
		}
	}
}

// TestPseudonyms_Prefixes keeps the common prefixes of addresses and no more.
func TestPseudonyms_Prefixes(t *testing.T) {
	p, err := NewPseudonyms(true)
	if err != nil {
		t.Fatal(err)
	}
	common := func(a, b netip.Addr) (n int) {
		x, y := a.AsSlice(), b.AsSlice()
		for n < len(x)*8 && x[n/8]>>(7-n%8)&1 == y[n/8]>>(7-n%8)&1 {
			n++
		}
		return n
	}
	for _, pair := range [][2]string{
		{"10.1.2.3", "10.1.2.99"}, {"10.1.2.3", "10.1.200.3"}, {"10.1.2.3", "192.0.2.1"},
		{"10.128.0.0", "10.0.0.0"},
	} {
		a, b := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		want := 4 // of the range; then comes the bit that tells private addresses
		if Private(a) == Private(b) {
			want = min(common(a, b), 27) + 5
		}
		if got := common(p.Address(a), p.Address(b)); got != want {
			t.Errorf("%v: the pseudonyms %v and %v share %d bits, want %d",
				pair, p.Address(a), p.Address(b), got, want)
		}
	}
	network := netip.MustParsePrefix(p.Text("10.1.0.0/16"))
	for address, inside := range map[string]bool{"10.1.2.3": true, "10.1.255.1": true,
		"10.2.0.1": false, "172.16.0.1": false} {
		if got := network.Contains(p.Address(netip.MustParseAddr(address))); got != inside {
			t.Errorf("%s in %v: %v", address, network, got)
		}
	}
}

func TestRead_Damaged(t *testing.T) {
	var whole bytes.Buffer
	if err := Write(&whole, &Capture{Schema: SchemaVersion}); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(whole.Bytes())); err != nil {
		t.Fatal(err)
	}
	var newer bytes.Buffer
	compressed := gzip.NewWriter(&newer)
	fmt.Fprintf(compressed, `{"schema": %d, "sizes": "in another form"}`, SchemaVersion+1)
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"empty":  {nil, "no capture"},
		"other":  {[]byte("hello"), "no capture"},
		"torn":   {whole.Bytes()[:whole.Len()-9], "torn"},
		"newer":  {newer.Bytes(), "take a newer ctload"},
		"no end": {whole.Bytes()[:20], "torn"},
	} {
		_, err := Read(bytes.NewReader(test.file))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// FuzzRead reads any file: it does not panic.
func FuzzRead(f *testing.F) {
	var whole bytes.Buffer
	if err := Write(&whole, &Capture{Schema: SchemaVersion}); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(_ *testing.T, file []byte) { _, _ = Read(bytes.NewReader(file)) })
}

// FuzzParseEntry reads any line: an entry has both directions.
func FuzzParseEntry(f *testing.F) {
	f.Add("tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 " +
		"dst=10.0.0.1 sport=2 dport=1 [ASSURED] mark=0 use=1")
	f.Add("ipv6     10 icmpv6   58 9 src=::1 dst=::2 type=128 code=0 id=1 [UNREPLIED] src=::2 " +
		"dst=::1")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEntry(text)
		if err == nil && !(e.Original.complete() && e.Reply.complete()) {
			t.Errorf("%+v", e)
		}
	})
}

// TestPseudonyms_NoAddress looks in the file for every form of every address of its source: as
// text, written out in full, in capitals, mapped, reversed, as hexadecimal and as decimal numbers.
func TestPseudonyms_NoAddress(t *testing.T) {
	var sources []netip.Addr
	for _, text := range []string{"198.51.100.23", "203.0.113.200", "10.66.77.88",
		"2001:db8:7e57::1:beef", "fd99:8877:6655::4433", "fe80::5054:ff:fe12:3456"} {
		sources = append(sources, netip.MustParseAddr(text))
	}
	for _, prefixes := range []bool{false, true} {
		c := &Capture{Schema: SchemaVersion, Own: slices.Clone(sources)}
		for i, a := range sources {
			other := sources[(i+3)%len(sources)]
			if a.Is6() != other.Is6() {
				other = sources[i/3*3+(i+1)%3]
			}
			c.Table.Entries = append(c.Table.Entries, Entry{Protocol: "tcp", State: "ESTABLISHED",
				Original: Tuple{Source: a, Destination: other, SourcePort: 40000,
					DestinationPort: 443},
				Reply: Tuple{Source: other, Destination: a, SourcePort: 443,
					DestinationPort: 40000}})
			c.Table.Holders = append(c.Table.Holders, Holder{Address: a, Entries: 9})
			line := "-A FORWARD -s " + a.String() + " -m comment --comment " + a.String() +
				" -j LOG --log-prefix " + a.StringExpanded() + "\n"
			if a.Is4() {
				c.Rules.IPv4 += line + "-A P -j DNAT --to-destination " + a.String() + ":80\n" +
					"-A P -s " + a.String() + "/24 -j SNAT --to-source " + a.String() + "-" +
					a.Next().String() + "\n"
			} else {
				c.Rules.IPv6 += line + "-A P -d " + a.StringExpanded() + "/64 -j ACCEPT\n"
			}
			if a.Is4() {
				b := a.As4()
				c.Rules.NFT += fmt.Sprintf("@nh,96,32 %#x accept\n@nh,96,32 %d accept\n"+
					"ip saddr @from_%d_%d_%d_%d accept\n", b, binary.BigEndian.Uint32(b[:]),
					b[0], b[1], b[2], b[3])
				c.Rules.Sets = map[string]int64{"from-" + a.String(): 3}
			} else {
				c.Rules.NFT += fmt.Sprintf("@nh,64,128 %#x accept\n", a.As16())
			}
			c.Settings = map[string]string{"kernel.hostname": a.String(),
				"net.ipv6.conf.all.stable_secret": a.String(),
				"net.netfilter.nf_conntrack_max":  "9"}
			c.Rules.NFT += "ip saddr { " + a.String() + ", " + a.StringExpanded() +
				" } accept comment \"" + a.String() + "\"\n"
		}
		p, err := NewPseudonyms(prefixes)
		if err != nil {
			t.Fatal(err)
		}
		p.Hide(c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		file := strings.ToLower(string(text))
		for _, a := range sources {
			b := a.AsSlice()
			reversed := slices.Clone(b)
			slices.Reverse(reversed)
			forms := []string{a.String(), a.StringExpanded(), fmt.Sprintf("%x", b),
				fmt.Sprintf("%x", reversed), netip.AddrFrom16(a.As16()).String(),
				new(big.Int).SetBytes(b).String(), new(big.Int).SetBytes(reversed).String()}
			if a.Is4() {
				forms = append(forms, netip.AddrFrom4([4]byte(reversed)).String(),
					fmt.Sprintf("%d.%d.%d", b[0], b[1], b[2]),
					fmt.Sprintf("%d_%d_%d", b[0], b[1], b[2]),
					fmt.Sprintf("%d, %d, %d, %d", b[0], b[1], b[2], b[3]))
			} else {
				forms = append(forms, strings.Join(strings.Split(a.StringExpanded(), ":")[:3], ":"),
					strings.ReplaceAll(a.StringExpanded(), ":", ""))
			}
			for _, form := range forms {
				if strings.Contains(file, strings.ToLower(form)) {
					t.Errorf("prefixes %v: the file holds %s, of %v:\n%s", prefixes, form, a, file)
				}
			}
		}
	}
}
