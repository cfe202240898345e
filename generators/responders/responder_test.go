package responders

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// start starts a responder, by default on loopback, that ends with the test.
func start(t *testing.T, spec Spec) *Responder {
	t.Helper()
	spec.Address = cmp.Or(spec.Address, "127.0.0.1")
	r, err := Listen(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func dial(t *testing.T, r *Responder) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", r.Ports()[0]), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// TestHTTPResponder checks that the responder serves the standard library's client, and requests in
// the form of other clients.
func TestHTTPResponder(t *testing.T) {
	const body = 300_000 // more than a socket takes at once
	r := start(t, Spec{Kind: HTTP, Ports: []uint16{0}, Body: body})
	address := fmt.Sprintf("http://127.0.0.1:%d/", r.Ports()[0])
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 3 {
		answer, err := client.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(answer.Body)
		if err != nil || len(data) != body || answer.StatusCode != 200 {
			t.Fatalf("status %d, %d bytes, %v", answer.StatusCode, len(data), err)
		}
		_ = answer.Body.Close()
	}
	if c := r.Counters(); c.Accepted != 1 || c.Requests != 3 {
		t.Errorf("kept alive: %+v", c)
	}

	// Two requests come in one packet, and a third in pieces, on one connection.
	conn := dial(t, r)
	answers := bufio.NewReader(conn)
	const pieces = "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT"
	if _, err := io.WriteString(conn, pieces); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if i == 2 {
			if _, err := io.WriteString(conn, "TP/1.1\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if n, err := io.Copy(io.Discard, answer.Body); n != body || err != nil {
			t.Fatalf("answer %d: %d bytes, %v", i, n, err)
		}
		_ = answer.Body.Close()
	}
	if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("told to close, it did not: %v", err)
	}

	// HTTP/1.0 closes by default, and other protocols are closed without an answer.
	for _, text := range []string{"GET / HTTP/1.0\r\n\r\n", "nonsense\r\n\r\n"} {
		conn := dial(t, r)
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(conn)
		if err != nil ||
			strings.HasPrefix(text, "GET") != bytes.HasPrefix(data, []byte("HTTP/1.1 200 OK\r\n")) {
			t.Errorf("%q: %d bytes, %v", text, len(data), err)
		}
	}
}

func TestTCPResponders(t *testing.T) {
	timeout := func(conn *net.TCPConn) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 10)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v; want nothing", n, err)
		}
	}
	t.Run("echo", func(t *testing.T) {
		conn := dial(t, start(t, Spec{Kind: Echo, Ports: []uint16{0}}))
		sent := bytes.Repeat([]byte("0123456789"), 100_000)
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
		}
	})
	t.Run("slow, reset before its answer", func(t *testing.T) {
		r := start(t, Spec{
			Kind: Slow, Ports: []uint16{0}, Workers: 1, Delay: time.Hour,
			Idle: 300 * time.Millisecond,
		})
		dial(t, r) // stays idle
		conn := dial(t, r)
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		hosttest.Eventually(t, "the request has come", func() bool {
			return r.Counters().Received > 0
		})
		_ = conn.SetLinger(0)
		_ = conn.Close()
		hosttest.Eventually(t, "one is reset, the other expires", func() bool {
			return r.Counters().Reset == 1 && r.Counters().Expired == 1
		})
	})
	t.Run("silent", func(t *testing.T) {
		r := start(t, Spec{Kind: Silent, Ports: []uint16{0}})
		conn := dial(t, r)
		_, _ = conn.Write([]byte("hello"))
		timeout(conn)
		_ = conn.CloseWrite()
		hosttest.Eventually(t, "it closes after us", func() bool {
			return r.Counters().Accepted == 1 && r.Counters().Open() == 0
		})
	})
	t.Run("leak", func(t *testing.T) {
		r := start(t, Spec{Kind: Leak, Ports: []uint16{0}})
		conn := dial(t, r)
		hosttest.Eventually(t, "it accepts", func() bool { return r.Counters().Accepted == 1 })
		_ = conn.CloseWrite()
		timeout(conn)
		if r.Counters().Open() != 1 {
			t.Errorf("%+v", r.Counters())
		}
	})
	t.Run("close", func(t *testing.T) {
		conn := dial(t, start(t, Spec{Kind: Close, Ports: []uint16{0}}))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		conn := dial(t, start(t, Spec{
			Kind: Slow, Delay: 150 * time.Millisecond, Ports: []uint16{0},
		}))
		start := time.Now()
		// Each answer comes after its own delay.
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n")
		answers, err := io.ReadAll(conn)
		if n := bytes.Count(answers, []byte("200 OK")); err != nil || n != 2 {
			t.Errorf("%d answers, %v", n, err)
		}
		if took := time.Since(start); took < 300*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("idle", func(t *testing.T) {
		const idle = 200 * time.Millisecond
		r := start(t, Spec{Kind: Echo, Ports: []uint16{0}, Idle: idle})
		tries := int64(1)
		// This host stood still and left the connection idle.
		for ; !outlives(t, r, idle); tries++ {
			if tries == 20 {
				t.Fatalf("%d connections were left idle", tries)
			}
		}
		hosttest.Eventually(t, "each is counted", func() bool {
			return r.Counters().Expired == tries
		})
	})
}

// outlives keeps a connection for longer than its idle time by exchanging bytes, and then sees it
// end. It returns false when this host left it idle for too long.
func outlives(t *testing.T, r *Responder, idle time.Duration) bool {
	t.Helper()
	conn := dial(t, r)
	var last time.Time // not after the responder received from the connection
	exchange := func() error {
		last = time.Now()
		_, err := conn.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
		}
		return err
	}
	for range 4 {
		before := last
		if err := exchange(); err != nil {
			if !before.IsZero() && time.Since(before) < idle {
				t.Errorf("ended after %s: %v", time.Since(before), err)
			}
			return false
		}
		<-time.After(idle / 2)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(last) < idle {
		t.Errorf("ended after %s: %v", time.Since(last), err)
	}
	return true
}

func TestResponderBacklog(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	for somaxconn, want := range map[string]int{"65535": DefaultBacklog, "100": 100} {
		if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte(somaxconn), 0); err != nil {
			t.Fatal(err)
		}
		r := start(t, Spec{Kind: Echo, Ports: []uint16{0}})
		if r.Backlog() != want {
			t.Errorf("with somaxconn %s the backlog is %d, want %d", somaxconn, r.Backlog(), want)
		}
	}
}

// TestUDPResponderAnswersFromWhereItWasAsked checks that the responder answers a datagram from the
// address that it came to, also on a host with several.
func TestUDPResponderAnswersFromWhereItWasAsked(t *testing.T) {
	r := start(t, Spec{Kind: Echo, Network: UDP, Address: "::", Ports: []uint16{0}})
	for _, host := range []string{"127.0.0.1", "127.0.0.77", "::1"} {
		// A connected socket takes answers from that address only.
		conn, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(r.Ports()[0])))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = conn.Write([]byte("hello"))
		got := make([]byte, 10)
		n, err := conn.Read(got)
		if err != nil || string(got[:n]) != "hello" {
			t.Errorf("%s: %q, %v", host, got[:n], err)
		}
		_ = conn.Close()
	}
}

func TestListenErrors(t *testing.T) {
	taken := start(t, Spec{Kind: Echo, Ports: []uint16{0}, Workers: 2})
	for _, spec := range []Spec{
		{Kind: "ftp", Ports: []uint16{0}},
		{Kind: Echo},
		{Kind: Slow, Ports: []uint16{0}},
		{Kind: HTTP, Network: UDP, Ports: []uint16{0}},
		{Kind: Echo, Network: "icmp", Ports: []uint16{0}},
		{Kind: Echo, Ports: []uint16{0}, Backlog: -1},
		{Kind: HTTP, Ports: []uint16{0}, Body: 1 << 30},
		{Kind: Echo, Ports: []uint16{0}, Address: "10.0.0.0/8"},
		{Kind: Echo, Ports: []uint16{0}, Address: "192.0.2.1"}, // not an address of this host
		{Kind: Echo, Ports: []uint16{0}, Namespace: "/nowhere"},
		{Kind: Handshake, Ports: []uint16{0}},
		{Kind: Echo, Ports: taken.Ports(), Address: "127.0.0.1", Workers: 1},
		// SO_REUSEPORT must not share the port unnoticed.
		{Kind: Echo, Ports: taken.Ports(), Address: "127.0.0.1", Workers: 2},
	} {
		if r, err := Listen(t.Context(), spec); err == nil {
			t.Errorf("%+v was started", spec)
			_ = r.Close()
		}
	}
}

func TestResponderEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Listen(ctx, Spec{Kind: Echo, Ports: []uint16{0}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	hosttest.Eventually(t, "no responder answers", func() bool {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", r.Ports()[0]),
			100*time.Millisecond)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = conn.Write([]byte("x"))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		return err != nil
	})
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDeafResponder checks that the queue of a deaf responder fills: it takes one connection more
// than its length.
func TestDeafResponder(t *testing.T) {
	const backlog = 4
	r := start(t, Spec{Kind: Deaf, Ports: []uint16{0}, Backlog: backlog, Workers: 1})
	for range backlog + 1 {
		dial(t, r)
	}
	hosttest.Eventually(t, "the queue is full", func() bool {
		return acceptQueue(t, r.Ports()[0]) == backlog+1
	})
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", r.Ports()[0]),
		500*time.Millisecond)
	if err == nil {
		t.Fatalf("a connection found room: %v", conn.Close())
	}
	if c := r.Counters(); c.Accepted != 0 {
		t.Errorf("it took %d connections", c.Accepted)
	}
}

// acceptQueue returns how many connections wait to be accepted on a port of this namespace.
func acceptQueue(t *testing.T, port uint16) int64 {
	t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		// The fields are sl, local address, remote address, state and queues. A listener's receive
		// queue counts the connections to accept.
		if f := strings.Fields(line); len(f) > 4 &&
			strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
			_, waiting, _ := strings.Cut(f[4], ":")
			n, err := strconv.ParseInt(waiting, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// TestResponderEndsWithAFullQueue checks that connections that the kernel has answered count
// although the responder ends before it accepts them.
func TestResponderEndsWithAFullQueue(t *testing.T) {
	r := start(t, Spec{Kind: Silent, Ports: []uint16{0}})
	r.Stall()
	time.Sleep(10 * time.Millisecond)
	for range 20 {
		dial(t, r)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if c := r.Counters(); c.Accepted != 20 || c.Open() != 0 {
		t.Errorf("of 20 connections: %+v", c)
	}
}
