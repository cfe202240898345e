package generators

import (
	"errors"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// soakVariable names the variable with the duration of the soak test, as "10m"; unset: a few
// seconds.
const soakVariable = "CTLOAD_SOAK"

// held counts resources of a process. They must not grow with use.
type held struct {
	goroutines, threads, descriptors int
	heap                             uint64
}

func holds(t *testing.T) held {
	t.Helper()
	for range 3 {
		runtime.GC()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	h := held{goroutines: runtime.NumGoroutine(), heap: memory.HeapAlloc}
	for folder, count := range map[string]*int{
		"/proc/self/fd": &h.descriptors, "/proc/self/task": &h.threads,
	} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		*count = len(entries)
	}
	return h
}

// TestSoak checks that loads of every kind, in sequence and in parallel, with responders that come
// and go, leave no memory, descriptor, goroutine or thread behind.
func TestSoak(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	duration := 2 * time.Second
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	lab := newPair(t)
	lab.client.sysctl(t, "net.ipv4.ip_local_port_range", "1024 65535")
	offered := map[Kind]int64{}
	round := func() {
		t.Helper()
		tcp, err := responders.Listen(t.Context(), responders.Spec{
			Kind: responders.HTTP, Ports: mustPorts(t, "80-83"), Namespace: lab.server.path(),
			Idle: 50 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		udp, err := responders.Listen(t.Context(), responders.Spec{
			Kind: responders.Echo, Network: responders.UDP, Ports: mustPorts(t, "80-83"),
			Namespace: lab.server.path(),
		})
		if err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		results := make(chan Result, 20)
		for _, spec := range []Spec{
			{Kind: HTTP, Concurrency: 50},
			{Kind: HTTP, Concurrency: 20, KeepAlive: 5},
			{Kind: TCP, Rate: 2000, Close: CloseRST},
			{Kind: TCP, Rate: 500, Close: CloseAbandon},
			{Kind: Hold, Rate: 2000, Count: 100, Interval: 20 * time.Millisecond, Payload: 5},
			{Kind: UDP, Rate: 5000, Reply: true},
			{Kind: SYN, Rate: 2000, Sources: crowd, Reuse: true},
			{Kind: UDP, Crafted: true, Rate: 2000, Sources: crowd, Reuse: true},
			{Kind: Handshake, Rate: 500, Sources: "10.78.99.0/24"},
			{Kind: ICMP, Rate: 500, Reply: true},
			{Kind: Probe, Rate: 100},
			{Kind: Probe, Rate: 100, Protocol: ProtocolUDP},
		} {
			spec.Target, spec.Namespace = serverAddress, lab.client.path()
			spec.Duration, spec.Timeout = 300*time.Millisecond, 200*time.Millisecond
			if spec.Kind != ICMP {
				spec.Ports = mustPorts(t, "80-83")
			}
			group.Go(func() error {
				r, err := Run(t.Context(), spec, func(Progress) {})
				sound(t, r)
				results <- r
				return err
			})
		}
		if err := errors.Join(group.Wait(), tcp.Close(), udp.Close()); err != nil {
			t.Fatal(err)
		}
		close(results)
		for r := range results {
			offered[r.Kind] += r.Offered
		}
	}
	round()
	round()
	before := holds(t)
	start := time.Now()
	rounds := 0
	for ; time.Since(start) < duration; rounds++ {
		round()
	}
	// The runtime keeps an ended thread for a moment, and on a busy host makes a few more than it
	// needs. A load that leaked one would leave dozens.
	var after held
	defer func() {
		t.Logf("%d rounds, offered %v: from %+v to %+v", rounds, offered, before, after)
	}()
	hosttest.Eventually(t, "no more is held than before", func() bool {
		after = holds(t)
		return after.threads <= before.threads+10 && after.goroutines <= before.goroutines &&
			after.descriptors <= before.descriptors
	})
	if len(offered) != 8 || slices.Contains(slices.Collect(maps.Values(offered)), 0) {
		t.Errorf("not every kind offered something: %v", offered)
	}
	if after.heap > before.heap+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes in %d rounds", before.heap, after.heap, rounds)
	}
}
