package capture

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestPseudonyms_Text replaces what tells who a host is, and nothing else.
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
		want := min(common(a, b), 28) + 4
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
