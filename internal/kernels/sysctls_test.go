package kernels

import "testing"

func TestNearSysctl(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.tcp_sync_retries":      "net.ipv4.tcp_syn_retries",
		"net.ipv4.tcp_syn_retries":       "",
		"net.core.somaxcon":              "net.core.somaxconn",
		"net.ipv4.conf.eth0.rp_filtr":    "net.ipv4.conf.eth0.rp_filter",
		"net.ipv4.conf.wan0.rp_filter":   "",
		"net.ipv6.neigh.eth0.gc_stale":   "",
		"kernel.does_not_exist":          "",
		"vm.swapiness":                   "vm.swappiness",
		"net.ipv4.entirely_new_and_long": "",
		"my.own.key":                     "",
	} {
		if got := NearSysctl(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestGone(t *testing.T) {
	for _, test := range []struct {
		v    Version
		key  string
		want bool
	}{
		{Version{4, 11}, "net.ipv4.tcp_tw_recycle", false},
		{Version{4, 12}, "net.ipv4.tcp_tw_recycle", true},
		{Version{5, 10}, Prefix + "helper", false},
		{Version{6, 1}, Prefix + "helper", true},
		{Version{6, 1}, KeyMax, false},
	} {
		if _, got := test.v.Gone(test.key); got != test.want {
			t.Errorf("%v, %s: %v", test.v, test.key, got)
		}
	}
}

func TestOneNumber(t *testing.T) {
	for key, want := range map[string]bool{
		KeyMax: true, "net.core.somaxconn": true, "net.ipv4.tcp_rmem": false,
		"net.ipv4.ip_local_port_range": false, "kernel.printk": false,
	} {
		if got := OneNumber(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}

func TestCurrentModule(t *testing.T) {
	for name, want := range map[string]string{
		"ip_conntrack": Module, "ip_conntrack_ftp": "nf_conntrack_ftp",
		"ip_nat_tftp":            "nf_nat_tftp",
		"nf_conntrack_proto_gre": Module, "nf_conntrack_ftp": "nf_conntrack_ftp",
	} {
		if got, _ := CurrentModule(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	hint, known := ParameterMeant(Module, "hashize")
	if known || hint != `; did you mean "hashsize"?` {
		t.Errorf("%q, %v", hint, known)
	}
}
