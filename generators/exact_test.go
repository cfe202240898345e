package generators

import (
	"cmp"
	"testing"
	"time"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestExactEntries checks that for each kind, the kernel's connection tracking counts exactly what
// the generator says that it offered: as many entries as tuples.
func TestExactEntries(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	for _, test := range []struct {
		name      string
		n         int64 // 0: 10,000
		ports     string
		spec      Spec
		responder responders.Spec
	}{
		{
			name: "http", spec: Spec{Kind: HTTP, Concurrency: 200, SourcePorts: "10000-14999"},
			responder: responders.Spec{Kind: responders.HTTP},
		},
		{
			name: "http6", n: 2000,
			spec: Spec{
				Kind: HTTP, Concurrency: 200, Target: serverAddress6, SourcePorts: "10000-14999",
			},
			responder: responders.Spec{Kind: responders.HTTP},
		},
		{
			name:      "tcp fin",
			spec:      Spec{Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Seed: 9},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "tcp rst",
			spec: Spec{
				Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Close: CloseRST,
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "tcp6", n: 2000,
			spec: Spec{
				Kind: TCP, Concurrency: 200, Target: serverAddress6, SourcePorts: "10000-14999",
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "tcp abandon", n: 2000,
			spec: Spec{
				Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Close: CloseAbandon,
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "tcp half-close", n: 2000,
			spec: Spec{
				Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Close: CloseHalf,
			},
			responder: responders.Spec{Kind: responders.Leak},
		},
		// More connections to one address and port than one source address has ports.
		{
			name: "tcp past 64k", n: 66_000, ports: "5000",
			spec: Spec{
				Kind: TCP, Concurrency: 200, Sources: clientAddress + "," + clientAddressToo,
				SourcePorts: "1024-65535", Close: CloseRST,
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "hold", n: 2000,
			spec: Spec{
				Kind: Hold, Concurrency: 200, SourcePorts: "10000-14999", Duration: time.Minute,
				Lifetime: lifetimes.Of(300 * time.Millisecond),
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name:      "udp",
			spec:      Spec{Kind: UDP, SourcePorts: "10000-14999", Rate: 100_000, CatchUp: true},
			responder: responders.Spec{Kind: responders.Silent, Network: responders.UDP},
		},
		{
			name: "udp6", n: 2000,
			spec: Spec{
				Kind: UDP, Target: serverAddress6, SourcePorts: "10000-14999", Rate: 100_000,
				CatchUp: true, // a busy host gives up slots of these few milliseconds otherwise
			},
			responder: responders.Spec{Kind: responders.Silent, Network: responders.UDP},
		},
		{
			name: "udp crafted",
			spec: Spec{
				Kind: UDP, Crafted: true, Sources: crowd, SourcePorts: "1024-2023", Seed: 4,
			},
			responder: responders.Spec{Kind: responders.Silent, Network: responders.UDP},
		},
		{
			name: "udp6 crafted",
			spec: Spec{
				Kind: UDP, Crafted: true, Target: serverAddress6, Sources: crowd6, Seed: 4,
				Payload: 31,
			},
			responder: responders.Spec{Kind: responders.Silent, Network: responders.UDP},
		},
		{
			name: "udp conversations", n: 2000,
			spec: Spec{
				Kind: UDP, SourcePorts: "10000-10499", Concurrency: 100, Exchanges: 3,
				Interval: 10 * time.Millisecond,
			},
			responder: responders.Spec{Kind: responders.Echo, Network: responders.UDP},
		},
		{
			name: "syn", spec: Spec{Kind: SYN, Sources: crowd, SourcePorts: "1024-2023", Seed: 1},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "syn6", spec: Spec{Kind: SYN, Target: serverAddress6, Sources: crowd6, Seed: 1},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "handshake", spec: Spec{Kind: Handshake, Sources: crowd, Seed: 2},
			responder: responders.Spec{Kind: responders.Close},
		},
		{
			name:      "handshake6",
			spec:      Spec{Kind: Handshake, Target: serverAddress6, Sources: crowd6, Seed: 2},
			responder: responders.Spec{Kind: responders.Close},
		},
		{name: "icmp", spec: Spec{Kind: ICMP, Reply: true}},
		{name: "icmp6", spec: Spec{Kind: ICMP, Target: serverAddress6, Sources: crowd6}},
		{
			name: "icmp6 answered",
			spec: Spec{Kind: ICMP, Target: serverAddress6, Sources: crowd6, Reply: true},
		},
		{
			name: "syn from top talkers", spec: Spec{Kind: SYN, Sources: crowd, Zipf: 1.2, Seed: 3},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "tcp from top talkers",
			spec: Spec{
				Kind: TCP, Concurrency: 200, Sources: clientAddress + "," + clientAddressToo,
				SourcePorts: "10000-19999", Zipf: 1.2, Close: CloseRST,
			},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "probe tcp", n: 200, ports: "5000",
			spec:      Spec{Kind: Probe, Rate: 1000, CatchUp: true, SourcePorts: "10000-14999"},
			responder: responders.Spec{Kind: responders.Silent},
		},
		{
			name: "probe udp", n: 200, ports: "5000",
			spec: Spec{
				Kind: Probe, Protocol: ProtocolUDP, Rate: 1000, CatchUp: true,
				SourcePorts: "10000-14999",
			},
			responder: responders.Spec{Kind: responders.Echo, Network: responders.UDP},
		},
		{
			name: "probe icmp", n: 200,
			spec: Spec{Kind: Probe, Protocol: ProtocolICMP, Rate: 1000, CatchUp: true},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, ports := cmp.Or(test.n, 10_000), cmp.Or(test.ports, "5000-5003")
			lab := newPair(t)
			lab.client.address(t, "link", clientAddressToo+"/24")
			lab.server.track(t)
			lab.client.sysctl(t, "net.ipv4.ip_local_port_range", "1024 65535")
			lab.server.sysctl(t, "net.core.somaxconn", "65535")
			lab.server.sysctl(t, "net.ipv4.tcp_syncookies", "0")
			lab.server.sysctl(t, "net.ipv4.icmp_ratelimit", "0")
			spec := test.spec
			if test.responder.Kind != "" {
				r := test.responder
				r.Ports, r.Namespace = mustPorts(t, ports), lab.server.path()
				startIn(t, r)
				spec.Ports = r.Ports
			}
			spec.Count, spec.Namespace, spec.Timeout = n, lab.client.path(), 10*time.Second
			if spec.Target == "" {
				spec.Target = serverAddress
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Offered != n || got.Completed != n {
				t.Errorf("offered %d, completed %d, failed by %v, limits %q",
					got.Offered, got.Completed, got.Causes, got.Limits)
			}
			if counted := lab.server.counts(t, n); counted != n {
				t.Errorf("%d tuples were offered, the kernel counts %d entries",
					got.Offered, counted)
			}
			if own := lab.client.count(t); own != 0 {
				t.Errorf("the client's own table has %d entries", own)
			}
			t.Logf("%.0f/s, cpu %.2fs", got.Rate(), got.Usage.CPUSeconds)
		})
	}
}
