package libvirt

import (
	"strings"
	"testing"
)

// FuzzParseEndpoint holds every daemon that is accepted to a transport, a name and the URI that was
// given.
func FuzzParseEndpoint(f *testing.F) {
	for _, text := range []string{"qemu:///system", "qemu:///session?socket=/s", "qemu://h/system",
		"qemu+ssh://root@h:22/system?keyfile=k", "qemu+tcp://[::1]:1/system", "xen:///",
		"qemu+tls://h/system?pkipath=/p&no_verify=1", "qemu:system", "qemu:///session"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text)
		switch {
		case err != nil && !strings.Contains(err.Error(), "is no libvirt daemon"):
			t.Errorf("%q: %v", text, err)
		case err == nil && (e.dialer == nil || e.Name() == "" || e.Here() && e.URI.Host != ""):
			t.Errorf("%q: %+v", text, e)
		}
	})
}
