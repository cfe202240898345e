package generators

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// ParseURL returns a spec for http load on a URL: http://HOST[:PORT][/PATH]. It resolves a host
// name and takes the first address. The caller fills in the rest of the spec.
func ParseURL(ctx context.Context, text string) (Spec, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return Spec{}, fmt.Errorf("%q is not a URL of the form http://HOST[:PORT][/PATH], such as http://10.0.0.2:8080/", text)
	}
	port := uint64(80)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return Spec{}, fmt.Errorf("URL %q: the port must be 1 to 65535, not %q", text, u.Port())
		}
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return Spec{}, fmt.Errorf("URL %q: %w", text, err)
	}
	return Spec{Kind: HTTP, Target: addresses[0].Unmap().String(), Ports: []uint16{uint16(port)}, Path: u.RequestURI(), Host: u.Host}, nil
}
