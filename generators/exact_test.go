package generators

import (
	"testing"
	"time"
)

// What a generator says that it offered is what the kernel's connection tracking has counted, for
// each kind: as many entries as tuples, no more and no less.
func TestExactEntries(t *testing.T) {
	if !inside(t) {
		return
	}
	const n = 20_000
	ports := "5000-5003"
	for _, test := range []struct {
		name      string
		spec      Spec
		responder ResponderSpec
	}{
		{name: "http", spec: Spec{Kind: HTTP, Concurrency: 200, SourcePorts: "10000-14999"}, responder: ResponderSpec{Kind: RespondHTTP}},
		{name: "tcp fin", spec: Spec{Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Seed: 9}, responder: ResponderSpec{Kind: RespondSilent}},
		{name: "tcp rst", spec: Spec{Kind: TCP, Concurrency: 200, SourcePorts: "10000-14999", Close: CloseRST}, responder: ResponderSpec{Kind: RespondSilent}},
		{name: "udp", spec: Spec{Kind: UDP, SourcePorts: "10000-14999", Rate: 100_000}, responder: ResponderSpec{Kind: RespondSilent, Network: ProtocolUDP}},
		{name: "syn", spec: Spec{Kind: SYN, Sources: crowd, SourcePorts: "1024-2023", Seed: 1}, responder: ResponderSpec{Kind: RespondSilent}},
		{name: "syn6", spec: Spec{Kind: SYN, Target: serverAddress6, Sources: crowd6, Seed: 1}, responder: ResponderSpec{Kind: RespondSilent}},
		{name: "handshake", spec: Spec{Kind: Handshake, Sources: crowd, Seed: 2}, responder: ResponderSpec{Kind: RespondClose}},
		{name: "handshake6", spec: Spec{Kind: Handshake, Target: serverAddress6, Sources: crowd6, Seed: 2}, responder: ResponderSpec{Kind: RespondClose}},
		{name: "icmp", spec: Spec{Kind: ICMP, Reply: true}},
		{name: "icmp6", spec: Spec{Kind: ICMP, Target: serverAddress6, Sources: crowd6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := newPair(t)
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
			spec.Count, spec.Namespace, spec.Timeout = n, lab.client.path(), 20*time.Second
			if spec.Target == "" {
				spec.Target = serverAddress
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Offered != n || got.Completed != n {
				t.Errorf("offered %d, completed %d, failed by %v, limits %q", got.Offered, got.Completed, got.Causes, got.Limits)
			}
			if entries := lab.server.count(t); entries != n {
				t.Errorf("%d tuples were offered, the kernel counts %d entries", got.Offered, entries)
			}
			if own := lab.client.count(t); own != 0 {
				t.Errorf("the client's own table has %d entries", own)
			}
			t.Logf("%.0f/s, cpu %.2fs", got.Rate(), got.Usage.CPUSeconds)
		})
	}
}
