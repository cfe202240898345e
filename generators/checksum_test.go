package generators

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// wrongChecksums returns how many segments, datagrams and ICMP messages the namespace's kernel
// dropped because of wrong checksums.
func (n *namespace) wrongChecksums(t testing.TB) (total int64) {
	t.Helper()
	n.within(t, func() error {
		snmp, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		for _, group := range []string{"Tcp", "Udp", "Icmp"} {
			total += parseNetCounter(string(snmp), group, "InCsumErrors")
		}
		snmp6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		for line := range strings.Lines(string(snmp6)) {
			if f := strings.Fields(line); len(f) == 2 &&
				(f[0] == "Icmp6InCsumErrors" || f[0] == "Udp6InCsumErrors") {
				count, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return err
				}
				total += count
			}
		}
		return err
	})
	return total
}

// TestChecksumsByReceiver checks that a real kernel receives every crafted packet, verifies its
// checksums and answers it, and it counts the wrong ones.
func TestChecksumsByReceiver(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.server.sysctl(t, "net.ipv4.icmp_ratelimit", "0")
	lab.server.sysctl(t, "net.ipv4.icmp_msgs_per_sec", "1000000")
	lab.server.sysctl(t, "net.ipv4.tcp_syncookies", "0")
	lab.server.sysctl(t, "net.core.somaxconn", "65535")
	r := lab.respond(t, responders.Spec{Kind: responders.Silent, Ports: mustPorts(t, "5000-5003")})
	const n = 2000
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"syn", Spec{Kind: SYN, Sources: crowd, Reply: true}},
		{"syn6", Spec{Kind: SYN, Sources: crowd6, Reply: true, Target: serverAddress6}},
		{"handshake closed", Spec{Kind: Handshake, Sources: crowd, Close: CloseFIN, Seed: 3}},
		{
			"handshake6 closed",
			Spec{
				Kind: Handshake, Sources: crowd6, Close: CloseFIN, Seed: 3, Target: serverAddress6,
			},
		},
		{"icmp", Spec{Kind: ICMP, Reply: true, Payload: 33}},
		{
			"icmp6",
			Spec{Kind: ICMP, Reply: true, Payload: 33, Target: serverAddress6, Sources: crowd6},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := test.spec
			spec.Count, spec.Namespace, spec.Timeout = n, lab.client.path(), 5*time.Second
			if spec.Target == "" {
				spec.Target = serverAddress
			}
			if spec.Kind != ICMP {
				spec.Ports = r.Ports()
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != n {
				t.Errorf("%d of %d were answered, failed by %v", got.Completed, n, got.Causes)
			}
			if wrong := lab.server.wrongChecksums(t); wrong != 0 {
				t.Errorf("the receiver found %d wrong checksums", wrong)
			}
		})
	}
	// The receiver verifies checksums: it counts every wrong one.
	spec := Spec{Kind: SYN, Target: serverAddress, Ports: []uint16{5000}, Sources: crowd, Count: 1}
	lab.client.falsify(t, spec, n, func(p *packets.Template, frame []byte, tuple tuples.Tuple) {
		p.SetTCP(frame, tuple.Source, tuple.Target, 1, 0)
		frame[len(frame)-3] ^= 1 // the last byte of the checksum
	})
	hosttest.Eventually(t, "every wrong checksum is found", func() bool {
		return lab.server.wrongChecksums(t) == n
	})
}

// falsify sends packets of a load after patch has corrupted them.
func (n *namespace) falsify(
	t testing.TB, spec Spec, count int64, patch func(*packets.Template, []byte, tuples.Tuple),
) {
	t.Helper()
	plan, err := spec.plan()
	if err != nil {
		t.Fatal(err)
	}
	n.within(t, func() error {
		way, err := plan.findOutlet()
		if err != nil {
			return err
		}
		var lost []int64
		var cause unix.Errno
		o, err := sockets.NewFrameBatch(way.index, 0, func(number int64, errno unix.Errno) {
			lost, cause = append(lost, number), errno
		})
		if err != nil {
			return err
		}
		template, err := plan.newTemplate(way.link)
		pending := make([]int64, count)
		for i := range pending {
			pending[i] = int64(i)
		}
		for attempt := 0; len(pending) > 0; attempt++ { // a busy host may lack buffers for a moment
			if attempt == 1000 {
				return errors.Join(cause, o.Close())
			}
			for _, number := range pending {
				patch(&template, o.Put(&template, number), plan.tuples.At(uint64(number)))
			}
			o.Flush()
			pending, lost = lost, nil
		}
		return errors.Join(err, o.Close())
	})
}

// TestDatagramsByReceiver checks that a real kernel delivers every crafted datagram to a socket,
// with its tuple and its payload, and none with a wrong checksum. The sockets have room for all
// datagrams, however late the test reads them.
func TestDatagramsByReceiver(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const (
		n        = 2000
		firstOne = 5000
		each     = 40 // whole frames: a socket's queue has room for twice as many by default
	)
	var ports []uint16
	for i := range n / each {
		ports = append(ports, uint16(firstOne+i))
	}
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"empty", Spec{Target: serverAddress, Sources: crowd}},
		{"payload", Spec{Target: serverAddress, Sources: crowd, Payload: 33, Seed: 5}},
		{"whole frames", Spec{Target: serverAddress, Sources: crowd, Payload: 1472}},
		{"empty6", Spec{Target: serverAddress6, Sources: crowd6}},
		{"payload6", Spec{Target: serverAddress6, Sources: crowd6, Payload: 33, Seed: 5}},
		{"whole frames6", Spec{Target: serverAddress6, Sources: crowd6, Payload: 1452}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := newPair(t)
			spec := test.spec
			spec.Kind, spec.Crafted, spec.Ports, spec.Count = UDP, true, ports, n
			spec.Namespace = lab.client.path()
			var receivers []*net.UDPConn
			lab.server.within(t, func() error {
				for _, port := range ports {
					at := netip.AddrPortFrom(netip.MustParseAddr(spec.Target), port)
					socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
					if err != nil {
						return err
					}
					receivers = append(receivers, socket)
				}
				return nil
			})
			t.Cleanup(func() {
				for _, socket := range receivers {
					if err := socket.Close(); err != nil {
						t.Error(err)
					}
				}
			})
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Offered != n || got.Completed != n {
				t.Error(counts(got))
			}
			plan, err := spec.plan()
			if err != nil {
				t.Fatal(err)
			}
			want := map[tuples.Tuple]bool{}
			for i := range uint64(n) {
				want[plan.tuples.At(i)] = true
			}
			room := make([]byte, sockets.MostFrame)
			for i, socket := range receivers {
				for range each {
					if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
						t.Fatal(err)
					}
					size, from, err := socket.ReadFromUDPAddrPort(room)
					if err != nil {
						t.Fatal(err)
					}
					tuple := tuples.Tuple{
						Source: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
						Target: netip.AddrPortFrom(netip.MustParseAddr(spec.Target), ports[i]),
					}
					if !want[tuple] || size != spec.Payload {
						t.Fatalf("%d bytes on %v, which were not sent, or came twice", size, tuple)
					}
					delete(want, tuple)
				}
			}
			if wrong := lab.server.wrongChecksums(t); wrong > 0 {
				t.Errorf("the receiver found %d wrong checksums", wrong)
			}
			// The receiver verifies checksums. The kernel of a socket does that when a process
			// reads.
			const few = 10
			spec.Ports = ports[:1]
			wrong := func(template *packets.Template, frame []byte, tuple tuples.Tuple) {
				template.SetUDP(frame, tuple.Source, tuple.Target)
				frame[len(frame)-spec.Payload-1] ^= 1 // the last byte of the checksum
			}
			lab.client.falsify(t, spec, few, wrong)
			hosttest.Eventually(t, "every wrong checksum is found", func() bool {
				soon := time.Now().Add(10 * time.Millisecond)
				if err := receivers[0].SetReadDeadline(soon); err != nil {
					t.Fatal(err)
				}
				size, from, err := receivers[0].ReadFromUDPAddrPort(room)
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%d bytes from %s, %v", size, from, err)
				}
				return lab.server.wrongChecksums(t) == few
			})
		})
	}
}
