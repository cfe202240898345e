package tuning

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
)

func TestSysctlPathStaysBelowProcSys(t *testing.T) {
	for key, want := range map[string]string{
		"net.netfilter.nf_conntrack_max":    "net/netfilter/nf_conntrack_max",
		"net.ipv4.conf.eth0/100.forwarding": "net/ipv4/conf/eth0.100/forwarding",
		"net/ipv4/conf/eth0.100/forwarding": "net/ipv4/conf/eth0.100/forwarding",
	} {
		if got, err := sysctlPath(key); err != nil || got != want {
			t.Errorf("sysctlPath(%q) = %q, %v; want %q", key, got, err, want)
		}
	}
	for _, key := range []string{"", ".", "..", "a.", ".a", "a..b", "a.//.b", "/etc/passwd",
		"../../etc/passwd", "a b", "a\nb", "net.//.//.//.etc"} {
		if path, err := sysctlPath(key); err == nil {
			t.Errorf("sysctlPath(%q) = %q, want an error", key, path)
		}
	}
}

func FuzzSysctlPath(f *testing.F) {
	for _, seed := range []string{"net.netfilter.nf_conntrack_max",
		"net/ipv4/conf/eth0.100/forwarding", "net.ipv4.ip_conntrack_max", "../x", "a.//.b", "//",
		".."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		canonical, _ := kernels.Key(key)
		if again, _ := kernels.Key(canonical); again != canonical {
			t.Errorf("%q -> %q -> %q", key, canonical, again)
		}
		path, err := sysctlPath(key)
		if err != nil {
			return
		}
		joined := filepath.Join("/proc/sys", path)
		if !strings.HasPrefix(joined, "/proc/sys/") || joined != "/proc/sys/"+path {
			t.Errorf("%q leads to %q", key, joined)
		}
	})
}
