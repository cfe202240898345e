package sockets

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/netnstest"
)

// TestFlowCounter sends datagrams over the loopback of a namespace, far more than a counter's queue
// holds: each counter has the packets of its flows alone.
func TestFlowCounter(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const sent = 2000
	tests := []struct {
		protocol                                 uint8
		source, target, sourcePorts, targetPorts string
		want                                     int64
	}{
		{unix.IPPROTO_UDP, "127.0.0.2/32", "127.0.0.1", "7000", "9000", sent},
		{unix.IPPROTO_UDP, "127.0.0.0/8", "127.0.0.1", "1-65535", "1-65535", sent},
		{unix.IPPROTO_UDP, "127.0.0.2/31", "127.0.0.1", "80,6990-7009", "443,8080,9000,9100", sent},
		{unix.IPPROTO_TCP, "127.0.0.2/32", "127.0.0.1", "7000", "9000", 0},
		{unix.IPPROTO_UDP, "127.0.0.3/32", "127.0.0.1", "7000", "9000", 0},
		{unix.IPPROTO_UDP, "127.0.0.2/32", "127.0.0.2", "7000", "9000", 0},
		{unix.IPPROTO_UDP, "127.0.0.2/32", "127.0.0.1", "6000-6999,7001", "9000", 0},
		{unix.IPPROTO_UDP, "127.0.0.2/32", "127.0.0.1", "7000", "8999,9001-9999", 0},
		{unix.IPPROTO_UDP, "::1/128", "::1", "7000", "9000", sent},
		{unix.IPPROTO_UDP, "::/45", "::1", "7000", "9000", sent},
		{unix.IPPROTO_UDP, "::2/128", "::1", "7000", "9000", 0},
		{unix.IPPROTO_UDP, "::1/128", "::1", "7000", "9001", 0},
	}
	var counters []*FlowCounter
	for _, test := range tests {
		c, err := CountFlows(lo.Index, Flows{
			Protocol: test.protocol, Source: netip.MustParsePrefix(test.source),
			Target: netip.MustParseAddr(test.target), SourcePorts: test.sourcePorts,
			TargetPorts: test.targetPorts,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		counters = append(counters, c)
	}
	for source, target := range map[string]string{
		"127.0.0.2:7000": "127.0.0.1:9000", "[::1]:7000": "[::1]:9000",
	} {
		from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(source))
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target))
		listener, err := net.ListenUDP("udp", to) // else the kernel refuses the second datagram
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		sender, err := net.DialUDP("udp", from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer sender.Close()
		for range sent {
			if _, err := sender.Write([]byte("packet")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, test := range tests {
		for range 2 { // a reading does not end the count
			if n, err := counters[i].Count(); n != test.want || err != nil {
				t.Errorf("%+v: counted %d, %v", test, n, err)
			}
		}
	}
}
