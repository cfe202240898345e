package generators

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/netnstest"
)

// toPort matches a tcp or udp destination port.
func toPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// listener opens a listening socket in a namespace and passes each accepted connection to serve;
// nil leaves them in the backlog.
func (n *namespace) listener(t testing.TB, port uint16, backlog int, serve func(*net.TCPConn)) {
	t.Helper()
	var listener net.Listener
	n.within(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
		if err = errors.Join(err, unix.Listen(fd, backlog)); err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "listener")
		listener, err = net.FileListener(file)
		return errors.Join(err, file.Close())
	})
	var done sync.WaitGroup
	if serve != nil {
		done.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				serve(conn.(*net.TCPConn))
			}
		})
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		done.Wait()
	})
}

// limitedBy reports whether a load hit a limit of this kind.
func limitedBy(r Result, code LimitCode) bool {
	return slices.ContainsFunc(r.Limits, func(l Limit) bool { return l.Code == code })
}

// TestCauses provokes every cause of failure.
func TestCauses(t *testing.T) {
	t.Parallel() // it mostly waits
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	in := func(r responders.Spec) { r.Namespace = lab.server.path(); startIn(t, r) }
	in(responders.Spec{
		Kind: responders.Silent, Ports: []uint16{1000, 1001, 1002, 1003, 1004, 1005},
	})
	in(responders.Spec{Kind: responders.Echo, Ports: []uint16{1200}})
	in(responders.Spec{Kind: responders.Slow, Delay: 2 * time.Second, Ports: []uint16{1300}})
	in(responders.Spec{Kind: responders.Slow, Delay: time.Minute, Ports: []uint16{1301}})
	in(responders.Spec{
		Kind: responders.Silent, Network: responders.UDP, Ports: []uint16{1000, 1004},
	})
	in(responders.Spec{
		Kind: responders.Silent, Ports: []uint16{1400}, Idle: 100 * time.Millisecond,
	})
	lab.server.listener(t, 1500, 0, nil)
	lab.server.listener(t, 1600, 100, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 10)) // until the request has come
		_ = c.SetLinger(0)
		_ = c.Close()
	})
	answer := func(text string) func(c *net.TCPConn) {
		return func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1000))
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
	lab.server.listener(t, 1700, 100,
		answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
	lab.server.listener(t, 1701, 100, answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"))
	lab.server.listener(t, 1702, 100,
		answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ntoo long"))
	lab.server.listener(t, 1703, 100, answer("HTTP/1.1 200 OK\r\n\r\nuntil the end"))

	lab.server.rules(t, &expr.Verdict{Kind: expr.VerdictDrop}, toPort(1001)...)
	lab.server.rules(t, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}, toPort(1002)...)
	lab.server.rules(t, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}, toPort(1003)...)
	lab.client.hook(t, nftables.ChainHookOutput, &expr.Verdict{Kind: expr.VerdictDrop},
		toPort(1004)...)
	lab.server.rules(t, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 1}, toPort(1005)...)
	lab.server.sysctl(t, "net.ipv4.tcp_syncookies", "0")
	lab.server.sysctl(t, "net.ipv4.icmp_ratelimit", "0")
	lab.server.sysctl(t, "net.ipv4.icmp_msgs_per_sec", "100000")

	// Loads that must time out have a short limit, unless they must connect first. The others have
	// a limit that a host which stands still for a while does not reach.
	const (
		n        = 20
		short    = 300 * time.Millisecond
		connects = 3 * time.Second
		long     = time.Minute
	)
	tcp := Spec{Kind: TCP, Concurrency: n, Close: CloseRST}
	http := Spec{Kind: HTTP, Concurrency: n}
	udp := Spec{Kind: UDP, Rate: 1000, CatchUp: true, Reply: true}
	syn := Spec{Kind: SYN, Sources: crowd, Reply: true}
	hold := Spec{
		Kind: Hold, Rate: 1000, CatchUp: true, Duration: long,
		Lifetime: lifetimes.Of(500 * time.Millisecond),
	}
	for _, test := range []struct {
		name      string
		spec      Spec
		port      uint16
		cause     Cause // of all failures; "": none fails
		connected int64 // at least
		limit     string
		repeated  int64 // SYNs, at least; none when 0, any number when -1
		within    time.Duration
	}{
		{name: "tcp fine", spec: tcp, port: 1000, connected: n},
		{name: "tcp refused", spec: tcp, port: 9, cause: Refused},
		{name: "tcp dropped", spec: tcp, port: 1001, cause: Timeout},
		{
			name: "tcp dropped, one repetition",
			spec: with(tcp, func(s *Spec) { s.SYNRetries, s.Timeout = 1, long }), port: 1001,
			cause: Timeout, repeated: n, within: long - 10*time.Second,
		},
		{name: "tcp rejected by ICMP", spec: tcp, port: 1002, cause: Refused},
		{name: "tcp rejected by RST", spec: tcp, port: 1003, cause: Refused},
		// While connect is under way, the kernel only records the error; the next SYN returns it.
		{name: "tcp host unreachable", spec: tcp, port: 1005, cause: Unreachable, repeated: -1},
		// The kernel hides EPERM from connect.
		{name: "tcp own rule", spec: tcp, port: 1004, cause: Timeout},
		{
			name: "tcp no owner", spec: with(tcp, func(s *Spec) { s.Target = nowhere }), port: 1000,
			cause: Unreachable, repeated: -1,
		},
		{
			name: "http stalls", spec: with(http, func(s *Spec) { s.Timeout = connects }),
			port: 1000, cause: Timeout, connected: n,
		},
		{
			name: "http too slow", spec: with(http, func(s *Spec) { s.Timeout = connects }),
			port: 1301, cause: Timeout, connected: n,
		},
		{name: "http slow", spec: http, port: 1300, connected: n},
		{name: "http reset", spec: http, port: 1600, cause: Reset, connected: n},
		{name: "http cut short", spec: http, port: 1701, cause: ClosedEarly, connected: n},
		{name: "http too long", spec: http, port: 1702, cause: BadResponse, connected: n},
		{name: "http until the end", spec: http, port: 1703, connected: n},
		{name: "http error", spec: http, port: 1700, cause: BadResponse, connected: n},
		{name: "not http", spec: http, port: 1200, cause: BadResponse, connected: n},
		{name: "udp refused", spec: udp, port: 9, cause: Refused},
		{name: "udp silent", spec: udp, port: 1000, cause: Timeout},
		{name: "udp own rule", spec: udp, port: 1004, cause: EPERM, limit: "netfilter"},
		{
			name: "udp own rule, no reply", spec: Spec{Kind: UDP}, port: 1004, cause: EPERM,
			limit: "netfilter",
		},
		{name: "syn fine", spec: syn, port: 1000},
		{name: "syn refused", spec: syn, port: 9, cause: Refused},
		{name: "syn dropped", spec: syn, port: 1001, cause: Timeout},
		{name: "syn rejected by ICMP", spec: syn, port: 1002, cause: Refused},
		{name: "syn host unreachable", spec: syn, port: 1005, cause: Unreachable},
		{name: "hold fine", spec: hold, port: 1000, connected: n},
		{
			name: "hold lost",
			spec: with(hold, func(s *Spec) { s.Lifetime = lifetimes.Of(long) }), port: 1400,
			cause: ClosedEarly, connected: n,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := test.spec
			spec.Ports, spec.Count, spec.Namespace = []uint16{test.port}, n, lab.client.path()
			if spec.Target == "" {
				spec.Target = serverAddress
			}
			if spec.Timeout == 0 {
				spec.Timeout = long
				if test.cause == Timeout {
					spec.Timeout = short
				}
			}
			if spec.Kind == UDP && !spec.Reply {
				spec.SourcePorts = "2000-2999"
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			want := map[string]int64{}
			if test.cause != "" {
				want[string(test.cause)] = n
			}
			if got.Offered != n || len(got.Causes) != len(want) ||
				got.Causes[string(test.cause)] != want[string(test.cause)] {
				t.Errorf("offered %d, completed %d, failed by %v; want all by %q",
					got.Offered, got.Completed, got.Causes, test.cause)
			}
			if got.Connect.Count() < test.connected {
				t.Errorf("%d were connected, want %d", got.Connect.Count(), test.connected)
			}
			if test.within > 0 && got.Elapsed > test.within {
				t.Errorf("it took %s", got.Elapsed)
			}
			// The kernel repeats a SYN after a second.
			if n := got.Usage.SYNRetransmitted; n < test.repeated ||
				test.repeated == 0 && n > 0 && got.Elapsed < time.Second {
				t.Errorf("%d SYNs were repeated, want %d",
					got.Usage.SYNRetransmitted, test.repeated)
			}
			if limited := fmt.Sprint(got.Limits); (len(got.Limits) == 0) != (test.limit == "") ||
				!strings.Contains(limited, test.limit) {
				t.Errorf("limits are %q, want %q", got.Limits, test.limit)
			}
		})
	}
	t.Run("full backlog", func(t *testing.T) {
		spec := with(tcp, func(s *Spec) {
			s.Target, s.Ports, s.Count, s.Timeout = serverAddress, []uint16{1500}, n, connects
			s.Namespace = lab.client.path()
			s.Kind, s.Duration, s.Close = Hold, long, CloseFIN
			s.Lifetime = lifetimes.Of(short)
		})
		got, err := Run(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, got)
		// A backlog of 0 takes one connection. The kernel drops the other SYNs or the last ACK of
		// their handshakes.
		if got.Completed == 0 || got.Causes[string(Timeout)] < n/2 ||
			got.Failed != got.Causes[string(Timeout)] {
			t.Error(counts(got))
		}
		if repeated := got.Usage.SYNRetransmitted; repeated < got.Causes[string(Timeout)] {
			t.Errorf("%d SYNs were repeated, of %d that waited for %s",
				repeated, got.Causes[string(Timeout)], connects)
		}
	})
	t.Run("no port", func(t *testing.T) {
		lab.client.sysctl(t, "net.ipv4.ip_local_port_range", "20000 20009")
		spec := with(hold, func(s *Spec) {
			s.Target, s.Ports, s.Count = serverAddress, []uint16{1000}, n
			s.Namespace = lab.client.path()
		})
		got, err := Run(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, got)
		if got.Completed != 10 || got.Causes[string(NoPort)] != 10 {
			t.Error(counts(got))
		}
		if !limitedBy(got, LimitSourcePorts) {
			t.Errorf("limits are %q", got.Limits)
		}
	})
	t.Run("waits for a port", func(t *testing.T) {
		lab.client.sysctl(t, "net.ipv4.ip_local_port_range", "21000 21009")
		brief := with(tcp, func(s *Spec) {
			s.Count, s.Lifetime, s.Timeout = 100, lifetimes.Of(short/6), long
		})
		for _, test := range []struct {
			name            string
			spec            Spec
			completed, most int64 // failures
			waits           int64 // at least
		}{
			{"freed", brief, 100, 0, 10},
			// As many at once as ports: one waits only where its port is not free yet.
			{
				"named, freed",
				with(brief, func(s *Spec) { s.Concurrency, s.SourcePorts = 10, "30000-30009" }),
				100, 0, 0,
			},
			// Each of n fails after the time limit, and the next one waits as long.
			{
				"kept", Spec{Kind: Hold, Concurrency: n, Duration: 5 * short, Timeout: short},
				10, 6 * n, 10,
			},
		} {
			spec := test.spec
			spec.Target, spec.Ports = serverAddress, []uint16{1000}
			spec.Namespace = lab.client.path()
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			failed := got.Causes[string(NoPort)]
			if got.Completed != test.completed || failed != got.Failed || failed > test.most {
				t.Errorf("%s: %s", test.name, counts(got))
			}
			waits := got.Usage.PortWaits
			if waits < max(test.waits, failed) || limitedBy(got, LimitSourcePorts) != (waits > 0) {
				t.Errorf("%s: %d waited for a port, limits %q",
					test.name, got.Usage.PortWaits, got.Limits)
			}
		}
	})
	t.Run("own table", func(t *testing.T) {
		lab.client.track(t)
		spec := with(tcp, func(s *Spec) {
			s.Target, s.Ports, s.Count = serverAddress, []uint16{1000}, n
			s.Namespace, s.SourcePorts = lab.client.path(), "3000-3999"
		})
		got, err := Run(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Usage.ConntrackPeak != n || !limitedBy(got, LimitConntrack) {
			t.Errorf("usage %+v, limits %q", got.Usage, got.Limits)
		}
	})
}

func with(spec Spec, change func(*Spec)) Spec {
	change(&spec)
	return spec
}

// TestCauseNoDescriptor runs alone in its process, since a process cannot raise its descriptor
// limit again.
func TestCauseNoDescriptor(t *testing.T) {
	t.Parallel() // it mostly waits
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.respond(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{1000}, Workers: 1})
	const limit = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	got, err := Run(t.Context(), Spec{
		Kind: Hold, Target: serverAddress, Ports: []uint16{1000}, Count: 400, Rate: 2000,
		CatchUp: true, Duration: 5 * time.Second, Namespace: lab.client.path(), Workers: 2,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, got)
	// The responder shares the process and its limit, so it cannot accept some connections. The
	// client holds these all the same.
	if got.Causes[string(NoDescriptor)] < 400-limit || got.Completed == 0 {
		t.Error(counts(got))
	}
	if !strings.Contains(fmt.Sprint(got.Limits), "the limit is 200") {
		t.Errorf("limits are %q", got.Limits)
	}
}

// TestCancel checks that the result adds up when the context ends first.
func TestCancel(t *testing.T) {
	t.Parallel() // it mostly waits
	silent := startResponder(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{0}})
	quiet := startResponder(t, responders.Spec{
		Kind: responders.Silent, Network: responders.UDP, Ports: []uint16{0},
	})
	stopped := errors.New("enough")
	for _, test := range []struct {
		name string
		spec Spec
		held bool
	}{
		{"http", Spec{Kind: HTTP, Ports: silent.Ports(), Concurrency: 50, Count: 1000}, false},
		{
			"hold",
			Spec{
				Kind: Hold, Ports: silent.Ports(), Rate: 1000, CatchUp: true, Count: 50,
				Duration: time.Hour,
			},
			true,
		},
		{
			"tcp held",
			Spec{Kind: TCP, Ports: silent.Ports(), Concurrency: 50, Count: 1000,
				Lifetime: lifetimes.Of(time.Hour)},
			true,
		},
		{
			"udp",
			Spec{
				Kind: UDP, Ports: quiet.Ports(), Rate: 1000, CatchUp: true, Count: 50, Reply: true,
			},
			false,
		},
		{
			"probe",
			Spec{
				Kind: Probe, Ports: silent.Ports(), Rate: 10, Duration: time.Hour,
				Timeout: time.Minute,
			},
			true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			spec := test.spec
			spec.Target = "127.0.0.1"
			start := time.Now()
			got, err := Run(ctx, spec, func(p Progress) {
				if p.Elapsed > 300*time.Millisecond {
					cancel(stopped)
				}
			})
			if !errors.Is(err, stopped) {
				t.Fatalf("the error is %v", err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %s to end", took)
			}
			sound(t, got)
			if got.Offered == 0 || test.held && got.Failed > 0 ||
				!test.held && got.Causes[string(Cancelled)] != got.Offered {
				t.Error(counts(got))
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	spec := Spec{Kind: TCP, Target: "127.0.0.1", Ports: []uint16{1}, Count: 1, Concurrency: 1}
	if _, err := Run(ctx, spec, nil); !errors.Is(err, stopped) {
		t.Errorf("begun in spite of a context that had ended: %v", err)
	}
}
