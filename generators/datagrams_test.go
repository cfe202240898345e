package generators

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/internal/netnstest"
)

func TestUDP(t *testing.T) {
	echo := responders.Spec{Kind: responders.Echo, Ports: []uint16{0, 0, 0, 0}}
	silent := responders.Spec{Kind: responders.Silent, Ports: []uint16{0, 0, 0, 0}}
	slow := responders.Spec{Kind: responders.Slow, Delay: 50 * time.Millisecond, Ports: []uint16{0}}
	for _, test := range []struct {
		name string
		// Each test has its own responder, which may count datagrams late.
		to    responders.Spec
		spec  Spec
		cause Cause // of all failures; "": none fails
		least time.Duration
	}{
		{"flows", silent, Spec{Count: 20_000, Reuse: true}, "", 0},
		{
			"named source ports", silent,
			Spec{Count: 4000, SourcePorts: "20000-20999", Payload: 10}, "", 0,
		},
		{"answered", echo, Spec{Count: 1000, Reply: true, Concurrency: 100}, "", 0},
		{"answered slowly", slow, Spec{Count: 1, Reply: true}, "", 50 * time.Millisecond},
		{
			"conversations", echo,
			Spec{
				Count: 200, Exchanges: 3, Interval: 20 * time.Millisecond, Rate: 2000,
				CatchUp: true, Payload: 100,
			},
			"", 40 * time.Millisecond,
		},
		{
			"unanswered", silent,
			Spec{
				Count: 50, Reply: true, Rate: 1000, CatchUp: true, Timeout: 50 * time.Millisecond,
			},
			Timeout, 0,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.to.Network = responders.UDP
			to := startResponder(t, test.to)
			spec := test.spec
			spec.Kind, spec.Target, spec.Ports = UDP, "127.0.0.1", to.Ports()
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			want := spec.Count
			if test.cause != "" {
				want = 0
				if got.Causes[string(test.cause)] != spec.Count {
					t.Errorf("failed by %v, all by %s were wanted", got.Causes, test.cause)
				}
			}
			if got.Offered != spec.Count || got.Completed != want {
				t.Error(counts(got))
			}
			if got.Total.Min() < test.least {
				t.Errorf("the quickest took %s, want at least %s", got.Total.Min(), test.least)
			}
			if test.name == "flows" {
				return // the load outruns the responder, whose socket buffer may overflow
			}
			came := to.Counters().Requests
			if n := spec.Count * int64(max(spec.Exchanges, 1)); spec.Reply && came < n || came > n {
				t.Errorf("%d datagrams came, %d were to", came, n)
			}
		})
	}
}

// TestUDPPortInUse checks that a flow cannot await answers on a port that another socket has: the
// kernel could give them to either.
func TestUDPPortInUse(t *testing.T) {
	echo := startResponder(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{0},
	})
	var scratch sockets.Address
	fd, errno := sockets.Open(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if errno == 0 {
		defer sockets.Close(fd)
		errno = sockets.BindSource(fd, netip.MustParseAddrPort("127.0.0.1:20999"),
			netip.MustParseAddr("127.0.0.1"), false, true, &scratch)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	for reply, want := range map[bool]int64{true: 9, false: 10} {
		got, err := Run(t.Context(), Spec{
			Kind: UDP, Target: "127.0.0.1", Ports: echo.Ports(), SourcePorts: "20990-20999",
			Count: 10, Rate: 1000, CatchUp: true, Reply: reply, Timeout: 30 * time.Second,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Completed != want || got.Causes[string(NoPort)] != 10-want {
			t.Errorf("answers awaited: %v: completed %d, want %d; failed by %v",
				reply, got.Completed, want, got.Causes)
		}
	}
}

// TestUDPPortWait checks that a flow of a closed loop waits for its source port, up to its timeout.
func TestUDPPortWait(t *testing.T) {
	echo := startResponder(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{0},
	})
	for _, test := range []struct {
		name      string
		timeout   time.Duration
		free      time.Duration // after which the port is free
		completed int64
	}{
		{"freed", 30 * time.Second, 300 * time.Millisecond, 10},
		{"kept", 300 * time.Millisecond, time.Hour, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			var scratch sockets.Address
			fd, errno := sockets.Open(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
			if errno == 0 {
				errno = sockets.BindSource(fd, netip.MustParseAddrPort("127.0.0.1:20989"),
					netip.MustParseAddr("127.0.0.1"), false, true, &scratch)
			}
			if errno != 0 {
				t.Fatal(errno)
			}
			closed := make(chan bool)
			timer := time.AfterFunc(test.free, func() { sockets.Close(fd); close(closed) })
			got, err := Run(t.Context(), Spec{
				Kind: UDP, Target: "127.0.0.1", Ports: echo.Ports(), SourcePorts: "20980-20989",
				Count: 10, Concurrency: 3, Reply: true, Timeout: test.timeout,
			}, nil)
			if timer.Stop() {
				sockets.Close(fd)
			} else {
				<-closed
			}
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != test.completed || got.Causes[string(NoPort)] != 10-test.completed ||
				got.Usage.PortWaits == 0 {
				t.Errorf("%s, %d waited", counts(got), got.Usage.PortWaits)
			}
		})
	}
}

// TestUDPStreams checks that flows answered for more than two seconds become streams: ASSURED, so
// that a full table keeps them.
func TestUDPStreams(t *testing.T) {
	t.Parallel() // it mostly waits
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.server.track(t)
	lab.respond(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{53},
	})
	const n = 500
	for i, test := range []struct {
		name      string
		exchanges int
		assured   int
	}{{"brief", 2, 0}, {"long", 5, n}} {
		t.Run(test.name, func(t *testing.T) {
			_, before := lab.server.entries(t)
			got, err := Run(t.Context(), Spec{
				Kind: UDP, Target: serverAddress, Ports: []uint16{53},
				SourcePorts: fmt.Sprintf("%d-%d", 2000*(i+1), 2000*(i+1)+n-1),
				Count:       n, Rate: 10_000, CatchUp: true, Exchanges: test.exchanges,
				Interval: 750 * time.Millisecond, Namespace: lab.client.path(),
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			// Brief flows took longer where this host stood still.
			most := max(test.assured, int(got.Total.CountAbove(1900*time.Millisecond)))
			_, after := lab.server.entries(t)
			if assured := after - before; got.Completed != n || assured < test.assured ||
				assured > most {
				t.Errorf("completed %d, %d are ASSURED, want %d to %d, failed by %v",
					got.Completed, assured, test.assured, most, got.Causes)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	t.Parallel() // it mostly waits
	tcp := startResponder(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{0}})
	udp := startResponder(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{0},
	})
	// The kernel gives this port to no other socket meanwhile, the prober's included.
	closed := []uint16{1}
	for _, test := range []struct {
		name  string
		spec  Spec
		cause Cause
	}{
		{"tcp", Spec{Ports: tcp.Ports()}, ""},
		{"udp", Spec{Protocol: ProtocolUDP, Ports: udp.Ports()}, ""},
		{"icmp", Spec{Protocol: ProtocolICMP}, ""},
		{"icmp6", Spec{Protocol: ProtocolICMP, Target: "::1"}, ""},
		{"tcp, closed", Spec{Ports: closed}, Refused},
		{"udp, closed", Spec{Protocol: ProtocolUDP, Ports: closed}, Refused},
		{"udp6, closed", Spec{Protocol: ProtocolUDP, Ports: closed, Target: "::1"}, Refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := test.spec
			spec.Kind, spec.Rate, spec.Duration = Probe, 100, 500*time.Millisecond
			spec.Timeout = 30 * time.Second
			if spec.Target == "" {
				spec.Target = "127.0.0.1"
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Missed == 0 && len(got.Probe) != 50 || int64(len(got.Probe)) != got.Offered {
				t.Fatalf("%d samples, %d offered, %d missed",
					len(got.Probe), got.Offered, got.Missed)
			}
			for i, point := range got.Probe {
				if point.OK != (test.cause == "") || point.Cause != test.cause {
					t.Errorf("sample %d: %+v", i, point)
				}
				if at := point.At.Sub(got.Started); at%(10*time.Millisecond) != 0 ||
					at >= spec.Duration {
					t.Errorf("sample %d has the time %s, which the schedule has not", i, at)
				}
			}
		})
	}
}
