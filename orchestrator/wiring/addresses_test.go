package wiring

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ctload/ctload/scenarios"
)

// TestStrangers: strangers of several clients are disjoint, and each client's lie in the network
// that is routed to it.
func TestStrangers(t *testing.T) {
	for _, tc := range []struct {
		family             scenarios.Family
		client, clients, n int
		network, strangers string
	}{
		{scenarios.IPv4, 0, 1, 1, "198.18.0.0/15", "198.18.0.0-198.18.0.0"},
		{scenarios.IPv4, 0, 1, 70000, "198.18.0.0/15", "198.18.0.0-198.18.255.255"},
		{scenarios.IPv4, 1, 2, 300, "198.19.0.0/16", "198.19.0.0-198.19.1.43"},
		{scenarios.IPv4, 2, 3, 70000, "198.19.0.0/17", "198.19.0.0-198.19.127.255"},
		{scenarios.IPv6, 0, 1, 256, "2001:2::/48", "2001:2::1:0-2001:2::1:ff"},
		{scenarios.IPv6, 3, 4, 256, "2001:2:0:c000::/50", "2001:2:0:c000::1:0-2001:2:0:c000::1:ff"},
	} {
		if got := strangerNetwork(tc.family, tc.client, tc.clients).String(); got != tc.network {
			t.Errorf("client %d of %d: %s, want %s", tc.client, tc.clients, got, tc.network)
		}
		if got := strangers(tc.family, tc.client, tc.clients, tc.n); got != tc.strangers {
			t.Errorf("%d of client %d of %d: %s, want %s", tc.n, tc.client, tc.clients, got,
				tc.strangers)
		}
	}
	for _, family := range []scenarios.Family{scenarios.IPv4, scenarios.IPv6} {
		for clients := 1; clients <= 16; clients++ {
			for a := range clients {
				mine := strangerNetwork(family, a, clients)
				first, last, _ := strings.Cut(strangers(family, a, clients, 1<<16), "-")
				if !mine.Contains(netip.MustParseAddr(first)) ||
					!mine.Contains(netip.MustParseAddr(last)) {
					t.Errorf("%s to %s of client %d of %d are not in %s", first, last, a, clients,
						mine)
				}
				for b := range a {
					if mine.Overlaps(strangerNetwork(family, b, clients)) {
						t.Errorf("clients %d and %d of %d share strangers", a, b, clients)
					}
				}
			}
		}
	}
}
