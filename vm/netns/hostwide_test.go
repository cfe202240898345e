package netns

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestSplit divides settings in the host's namespace, where only its name shows that a key is
// shared.
func TestSplit(t *testing.T) {
	asked := tuning.Settings{
		LoadModules: []string{"a"}, RemoveModules: []string{"b"}, Buckets: 8192,
		Rules: "*filter\nCOMMIT\n",
		Sysctl: []tuning.Sysctl{
			{Key: "net.ipv4.netfilter.ip_conntrack_max", Value: "1"}, // the old name of the max
			{Key: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", Value: "2"},
			{Key: "net/netfilter/nf_conntrack_expect_max", Value: "3"},
			{Key: "vm.swappiness", Value: "4"},
			{Key: "net.ipv4.ip_forward", Value: "1"},
		},
	}
	host, own := split(asked)
	wantHost := tuning.Settings{LoadModules: []string{"a"}, RemoveModules: []string{"b"},
		Sysctl: []tuning.Sysctl{
			{Key: kernels.KeyBuckets, Value: "8192"}, {Key: kernels.KeyMax, Value: "1"},
			{Key: "net.netfilter.nf_conntrack_expect_max", Value: "3"},
			{Key: "vm.swappiness", Value: "4"},
		}}
	if diff := cmp.Diff(wantHost, host); diff != "" {
		t.Errorf("of the host:\n%s", diff)
	}
	wantOwn := tuning.Settings{Rules: asked.Rules,
		Sysctl: []tuning.Sysctl{asked.Sysctl[1], asked.Sysctl[4]}}
	if diff := cmp.Diff(wantOwn, own); diff != "" {
		t.Errorf("of the namespace:\n%s", diff)
	}
	if len(asked.Sysctl) != 5 || asked.Buckets != 8192 {
		t.Error("the settings were changed")
	}
	if list := HostWide(own); list != nil {
		t.Errorf("what is left is said to be the host's: %q", list)
	}
}

// TestHostWideInside asks in a namespace, as the lab does: what it lacks or cannot write belongs to
// the host.
func TestHostWideInside(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		for key, want := range map[string]bool{
			"net.core.netdev_max_backlog":      true, // there is one for all
			"net.core.somaxconn":               false,
			"net.ipv4.tcp_syncookies":          false,
			"net.ipv4.conf.eth0.rp_filter":     false, // the card is not there yet
			"net.ipv4.tcp_no_such":             false, // no kernel has it: setting it fails
			"kernel.pid_max":                   true,
			"net.netfilter.nf_conntrack_max":   true,
			"net.netfilter.nf_no_such_timeout": false,
		} {
			if got := hostWide(key); got != want {
				t.Errorf("%s: %v, want %v", key, got, want)
			}
		}
	})
}

// TestChangeableByNobody checks that even root of a namespace may not change the host from inside.
func TestChangeableByNobody(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		if err := Changeable(); err == nil {
			t.Error("the host could be changed from a namespace")
		}
		if err := writeHost(kernels.KeyMax, "1"); err == nil {
			t.Error("the host was changed from a namespace")
		}
	})
}
