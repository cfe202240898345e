package generators

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// capture reads the TCP segments with SYN, FIN or RST that come to a namespace's link.
type capture struct {
	fd    int32
	batch *sockets.Batch
}

func (n *namespace) capture(t testing.TB, link string) *capture {
	t.Helper()
	c := &capture{batch: sockets.NewBatch(sockets.BatchSize, sockets.AnswerSize, 0)}
	n.within(t, func() error {
		index, err := sockets.InterfaceIndex(link)
		if err == nil {
			c.fd, err = sockets.ListenPackets(index, false, packets.SYN|packets.FIN|packets.RST)
		}
		return err
	})
	t.Cleanup(func() { sockets.Close(c.fd) })
	return c
}

// frames returns the frames that came since the last call.
func (c *capture) frames() (frames [][]byte) {
	for {
		n, errno := c.batch.Receive(c.fd)
		if errno != 0 {
			return frames
		}
		for i := range n {
			frames = append(frames, slices.Clone(c.batch.Received(i)))
		}
	}
}

// shape returns a SYN without its individual parts: identification, checksums, source port, first
// sequence number and the value of its timestamp.
func shape(frame []byte) string {
	f := slices.Clone(frame)
	ip, tcp := f[14:], f[34:]
	clear(ip[4:6])
	clear(ip[10:12])
	clear(tcp[0:2])
	clear(tcp[4:8])
	clear(tcp[16:18])
	for o := 20; o < int(tcp[12]>>4)*4; {
		switch kind := tcp[o]; kind {
		case 0, 1:
			o++
			continue
		case 8:
			clear(tcp[o+2 : o+6])
		}
		o += int(tcp[o+1])
	}
	return fmt.Sprintf("%x", ip)
}

// TestReusable_LooksFresh checks that a connection on a reused socket sends the same packets as one
// on a fresh socket.
func TestReusable_LooksFresh(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const n = 1000
	for _, test := range []struct {
		name      string
		spec      Spec
		responder responders.Kind
		last      packets.Flags // what ends each
	}{
		{"rst", Spec{Kind: TCP, Close: CloseRST}, responders.Silent, packets.RST},
		{
			"rst after data", Spec{Kind: TCP, Close: CloseRST, Payload: 100, Expect: 100},
			responders.Echo, packets.RST,
		},
		{"fin, the server first", Spec{Kind: TCP, CloseBy: Server}, responders.Close, packets.FIN},
		{"http", Spec{Kind: HTTP}, responders.HTTP, packets.FIN},
		{
			"sources", Spec{Kind: HTTP, Sources: clientAddress + "," + clientAddressToo},
			responders.HTTP, packets.FIN,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := newPair(t)
			lab.client.address(t, "link", clientAddressToo+"/24")
			lab.respond(t, responders.Spec{Kind: test.responder, Ports: []uint16{80}})
			seen := lab.server.capture(t, "link")
			spec := test.spec
			spec.Target, spec.Ports, spec.Count = serverAddress, []uint16{80}, n
			spec.Concurrency, spec.Namespace = 8, lab.client.path()
			plan, err := spec.plan()
			if err != nil || !plan.reusesSockets() {
				t.Fatalf("sockets are not reused: %v", err)
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			syns, ends := map[string]int{}, 0
			opened, reused := map[uint32]bool{}, 0
			for _, frame := range seen.frames() {
				switch flags := packets.Flags(frame[34+13]); {
				case flags&packets.SYN != 0:
					clear(frame[26:30]) // the source may be either
					syns[shape(frame)]++
					sequence := binary.BigEndian.Uint32(frame[38:])
					// A socket's next connection begins a window after the last one.
					for window := range opened {
						if d := sequence - window; d > 0 && d < 1<<18 {
							reused++
							break
						}
					}
					opened[sequence] = true
				case flags&test.last != 0:
					ends++
				}
			}
			if len(syns) != 1 || got.Completed != n {
				t.Errorf("%d completed; SYNs differ: %v", got.Completed, syns)
			}
			for _, count := range syns {
				if int64(count) != n+got.Usage.SYNRetransmitted {
					t.Errorf("%d SYNs for %d connections, %d of them sent again",
						count, n, got.Usage.SYNRetransmitted)
				}
			}
			if again := got.Usage.Retransmitted - got.Usage.SYNRetransmitted; int64(ends) < n ||
				int64(ends) > n+again {
				t.Errorf("%d were ended by %v, not %d; %d segments were sent again",
					ends, test.last, n, again)
			}
			if reused < n/2 {
				t.Errorf("only %d sockets had a connection before", reused)
			}
			if got.Usage.Retransmitted > mostRepeated(n) {
				t.Errorf("%d segments were sent again", got.Usage.Retransmitted)
			}
		})
	}
}

// mostRepeated limits how many segments a busy kernel may repeat because its timers ran before it
// handled the answers. A peer that refuses segments would cause many more.
func mostRepeated(connections int64) int64 { return connections / 100 }

// TestReusable_NotInTimeWait checks that connections without timestamps get fresh sockets. A peer
// in TIME_WAIT then compares sequence numbers, and those of a reused socket come from other tuples
// and are as good as random.
func TestReusable_NotInTimeWait(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const n = 2000
	lab := newPair(t)
	lab.client.sysctl(t, "net.ipv4.ip_local_port_range", "20000 20199")
	lab.server.sysctl(t, "net.ipv4.tcp_timestamps", "0")
	lab.respond(t, responders.Spec{Kind: responders.HTTP, Ports: []uint16{80}})
	got, err := Run(t.Context(), Spec{
		Kind: HTTP, Target: serverAddress, Ports: []uint16{80}, Count: n, Concurrency: 8,
		Namespace: lab.client.path(), Timeout: 30 * time.Second,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, got)
	if got.Completed != n || got.Usage.SYNRetransmitted > mostRepeated(n) {
		t.Errorf("%d of %d were completed, %d SYNs were sent again, failed by %v",
			got.Completed, n, got.Usage.SYNRetransmitted, got.Causes)
	}
}

// TestReusesSockets checks that loads that name their ports, keep their connections or need fresh
// sockets do not reuse sockets.
func TestReusesSockets(t *testing.T) {
	for _, test := range []struct {
		change func(*Spec)
		want   bool
	}{
		{func(*Spec) {}, true},
		{func(s *Spec) { s.Close = CloseRST }, true},
		{func(s *Spec) { s.Kind = TCP }, true},
		{func(s *Spec) { s.Ports = []uint16{80, 81} }, true},
		{func(s *Spec) { s.Sources = "10.0.1.0/24" }, true},
		{func(s *Spec) { s.SourcePorts = "1024-2047" }, false},
		{func(s *Spec) { s.Target = "10.0.0.1-10.0.0.2" }, false},
		{func(s *Spec) { s.KeepAlive = 2 }, false},
		{func(s *Spec) { s.Kind, s.Lifetime = TCP, lifetimes.Of(time.Second) }, false},
		{func(s *Spec) { s.Kind, s.Close = TCP, CloseAbandon }, false},
		{func(s *Spec) { s.Kind, s.Close = TCP, CloseHalf }, false},
		{func(s *Spec) { s.Kind, s.Payload = TCP, 1<<20 }, false},
		{func(s *Spec) { s.Kind, s.Duration = Hold, time.Second }, false},
		{func(s *Spec) { s.Kind, s.Rate = Probe, 1 }, false},
	} {
		spec := Spec{Kind: HTTP, Target: "10.0.0.1", Ports: []uint16{80}, Count: 1, Concurrency: 1}
		test.change(&spec)
		p, err := spec.plan()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.reusesSockets(); got != test.want {
			t.Errorf("%+v: %t", spec, got)
		}
	}
}

// TestReusable_AreClosed checks that a socket is reusable only while no other part of the stream
// refers to it. The end of the load closes it.
func TestReusable_AreClosed(t *testing.T) {
	r := startResponder(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{0}})
	before := holds(t).descriptors
	for range 3 {
		got, err := Run(t.Context(), Spec{
			Kind: TCP, Target: "127.0.0.1", Ports: r.Ports(), Count: 500, Concurrency: 100,
			Close: CloseRST,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, got)
	}
	hosttest.Eventually(t, "all descriptors are given back", func() bool {
		return holds(t).descriptors <= before
	})
	if errno := sockets.Disconnect(-1); errno != unix.EBADF {
		t.Errorf("disconnecting nothing: %v", errno)
	}
}
