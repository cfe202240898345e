package kernels

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Version
		ok   bool
	}{
		{"6.1.0-37-cloud-amd64", Version{6, 1}, true},
		{"5.15", Version{5, 15}, true},
		{"v6.12-rc3", Version{6, 12}, true},
		{"3.10.0-1160.el7.x86_64", Version{3, 10}, true},
		{"6", Version{}, false},
		{"debian/bookworm", Version{}, false},
		{"99999999999999999999.1", Version{}, false},
	} {
		got, err := Parse(test.in)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: %v, %v", test.in, got, err)
		}
	}
}

// Tables of 6.1 and 6.12 as booted with this much memory in QEMU; the kernel sees about 5 % less.
func TestDefaultSizeMeasured(t *testing.T) {
	new := Version{6, 1}
	for mib, want := range map[int64]int64{
		256: 2048, 512: 4096, 1000: 7680, 1200: 65536, 2048: 65536, 4096: 65536, 4500: 262144,
		8192: 262144,
	} {
		seen := mib << 20 * 955 / 1000
		if got := DefaultSize(new, seen); got != (Size{want, want}) {
			t.Errorf("%d MiB: %+v, want %d", mib, got, want)
		}
	}
	// Older kernels, from their source.
	for _, test := range []struct {
		v    Version
		mib  int64
		want Size
	}{
		{Version{5, 14}, 500, Size{16384, 4096}},
		{Version{5, 14}, 8192, Size{262144, 65536}},
		{Version{3, 18}, 8192, Size{65536, 16384}},
		{Version{3, 19}, 2048, Size{65536, 16384}},
	} {
		if diff := cmp.Diff(test.want, DefaultSize(test.v, test.mib<<20)); diff != "" {
			t.Errorf("%v, %d MiB: %s", test.v, test.mib, diff)
		}
	}
}

func TestNamed(t *testing.T) {
	running, err := Parse(Running())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Version{
		"debian/bullseye": {5, 10}, "ubuntu/noble": {6, 8}, "debian/sid": recent,
		"/boot/vmlinuz-5.4.0-42-generic": {5, 4}, "6.1.0-37-cloud-amd64": {6, 1}, HostName: running,
	} {
		if got := Named(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestLoadedSize(t *testing.T) {
	for line, want := range map[string]Size{
		"nf_conntrack hashsize=1024 enable_hooks=1": {8192, 1024}, "nf_conntrack": {}, "": {},
		"xt_recent hashsize=9": {}, "nf_conntrack hashsize=x": {},
	} {
		if got, ok := LoadedSize(line); got != want || ok != (want != Size{}) {
			t.Errorf("%q: %v, %v; want %v", line, got, ok, want)
		}
	}
}

func TestTimeouts_OfVersion(t *testing.T) {
	for version, want := range map[Version]int64{{4, 19}: 180, {5, 0}: 120} {
		if got := Timeouts(version)[Prefix+"udp_timeout_stream"]; got != want {
			t.Errorf("%v: udp_timeout_stream %d, want %d", version, got, want)
		}
		if got := States(version)["udp_stream"]; got != want {
			t.Errorf("%v: state udp_stream %d, want %d", version, got, want)
		}
	}
	if States(recent)["time_wait"] != 120 {
		t.Errorf("states %v lack time_wait", States(recent))
	}
}

func TestKey(t *testing.T) {
	for _, test := range []struct {
		key, want string
		renamed   bool
	}{
		{"net.netfilter.nf_conntrack_max", KeyMax, false},
		{"net.nf_conntrack_max", KeyMax, true},
		{"ip_conntrack_max", KeyMax, true},
		{"net.ipv4.ip_conntrack_max", KeyMax, true},
		{"net.ipv4.netfilter.ip_conntrack_max", KeyMax, true},
		{"net.ipv4.netfilter.ip_conntrack_tcp_be_liberal", Prefix + "tcp_be_liberal", true},
		{"net/netfilter/nf_conntrack_max", KeyMax, false},
		{"/proc/sys/net/netfilter/nf_conntrack_max", KeyMax, false},
		{"net/ipv4/netfilter/ip_conntrack_udp_timeout", Prefix + "udp_timeout", true},
		{"net.ipv4.conf.eth0/100.forwarding", "net.ipv4.conf.eth0/100.forwarding", false},
		{"net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/100.forwarding", false},
		{" net.core.somaxconn ", "net.core.somaxconn", false},
		{"", "", false},
	} {
		got, renamed := Key(test.key)
		if got != test.want || renamed != test.renamed {
			t.Errorf("Key(%q) = %q, %v; want %q, %v",
				test.key, got, renamed, test.want, test.renamed)
		}
	}
}

// FuzzParse holds a release that is read to the version that it begins with.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"6.1.0-37-cloud-amd64", "v5.15", "6", "6.18.44-x", "999999.1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Parse(text)
		again, errAgain := Parse(v.String())
		if err == nil && (errAgain != nil || again != v || !v.AtLeast(v.Major, v.Minor)) {
			t.Errorf("%q: %v, then %v, %v", text, v, again, errAgain)
		}
	})
}
