package generators

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// The loads of TestOccupancy.
const (
	lifeRate = 2000
	lifeMean = 500 * time.Millisecond
	lifeLoad = 4 * time.Second // how long new ones begin
	lifeFull = 2 * time.Second // when nearly all of the longest lives have passed once
)

var lifeShapes = map[string]lifetimes.Distribution{
	"fixed":       lifetimes.Of(lifeMean),
	"exponential": {Shape: lifetimes.Exponential, Mean: lifeMean},
	"lognormal":   {Shape: lifetimes.LogNormal, Mean: lifeMean, Sigma: .6},
	"quantiles": {Shape: lifetimes.Quantiles, Quantiles: []time.Duration{
		0, lifeMean / 2, 3 * lifeMean / 2, 2 * lifeMean,
	}},
}

// living returns how many of a load live at a time, if each begins in time and lives on for further
// after its life.
func (p *plan) living(at, further time.Duration) (n float64) {
	for k := int64(0); ; k++ {
		begin, ok := p.schedule.At(k)
		if !ok || begin > at || begin >= p.Duration {
			return n
		}
		if at < begin+p.life(k)+further {
			n++
		}
	}
}

// TestOccupancy checks the entries in the kernel's table against the lives that were drawn, for
// four distributions of the same mean. Beyond chance, these follow Little's law, as the tests of
// [lifetimes] show.
func TestOccupancy(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const udpTimeout = time.Second
	for _, test := range []struct {
		shape string
		spec  Spec
		state string
		after time.Duration // how long the kernel keeps an entry in that state
	}{
		{"fixed", Spec{Kind: TCP, Close: CloseRST}, "ESTABLISHED", 0},
		{"exponential", Spec{Kind: TCP, Close: CloseRST}, "ESTABLISHED", 0},
		{"lognormal", Spec{Kind: TCP, Close: CloseRST}, "ESTABLISHED", 0},
		{"quantiles", Spec{Kind: TCP, Close: CloseRST}, "ESTABLISHED", 0},
		{"lognormal", Spec{Kind: Handshake, Close: CloseFIN}, "ESTABLISHED", 0},
		{"exponential", Spec{Kind: UDP, Interval: 100 * time.Millisecond}, "UDP", udpTimeout},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.spec.Kind, test.spec.Close, test.shape),
			func(t *testing.T) {
				t.Parallel() // it mostly waits
				lab := newPair(t)
				lab.server.track(t)
				for name, value := range map[string]string{
					"tcp_timeout_close": "1", "tcp_timeout_time_wait": "1", "udp_timeout": "1",
					"udp_timeout_stream": "1",
				} {
					lab.server.sysctl(t, "net.netfilter.nf_conntrack_"+name, value)
				}
				lab.server.sysctl(t, "net.ipv4.tcp_syncookies", "0")
				lab.server.sysctl(t, "net.core.somaxconn", "65535")
				for _, network := range []responders.Network{responders.TCP, responders.UDP} {
					lab.respond(t, responders.Spec{
						Kind: responders.Silent, Network: network, Ports: mustPorts(t, "5000-5003"),
					})
				}
				spec := test.spec
				spec.Target, spec.Ports = serverAddress, mustPorts(t, "5000-5003")
				spec.SourcePorts, spec.Namespace = "10000-39999", lab.client.path()
				if spec.Kind == Handshake {
					spec.Sources = "10.78.0.0/24"
				}
				spec.Rate, spec.Duration, spec.CatchUp = lifeRate, lifeLoad, true
				spec.Lifetime, spec.Seed = lifeShapes[test.shape], 1
				plan, err := spec.plan()
				if err != nil {
					t.Fatal(err)
				}
				for tries := 4; ; tries-- {
					got, due, longer, late := occupancy(t, lab, plan, test.state, test.after)
					t.Logf("%.0f live, %.0f were due, rate x life is %.0f",
						got, due, lifeRate*(lifeMean+test.after).Seconds())
					off, most := math.Abs(got/due-1), .02
					if late && tries == 0 {
						most = .05 + 1.5*longer
					}
					if off <= most {
						return
					}
					if !late || tries == 0 { // NaN without a sample
						t.Fatalf("%.1f %% off", 100*off)
					}
					t.Logf("again: the host kept the load waiting, lives are %.1f %% longer",
						100*longer)
				}
			})
	}
}

// occupancy makes a load and returns how many of its connections or flows the kernel had in a state
// on average, how many should have been, and by what share their lives were longer than drawn. late
// reports whether the host kept the load waiting.
func occupancy(
	t *testing.T, lab *pair, plan *plan, state string, after time.Duration,
) (got, due, longer float64, late bool) {
	t.Helper()
	var result Result
	ended := make(chan error)
	started := make(chan time.Time, 1)
	go func() {
		var err error
		result, err = Run(t.Context(), plan.Spec, func(p Progress) {
			select {
			case started <- time.Now().Add(-p.Elapsed):
			default:
			}
		})
		ended <- err
	}()
	start, samples := <-started, 0.0
	for {
		from := time.Since(start)
		if from >= lifeLoad-100*time.Millisecond {
			break
		}
		states, _ := lab.server.entries(t)
		took := time.Since(start) - from
		if from >= lifeFull {
			got += float64(states[state])
			const parts = 8 // the walk comes to an entry at any time of its own
			for i := range time.Duration(parts) {
				due += plan.living(from+took*(2*i+1)/(2*parts), after) / parts
			}
			samples++
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	sound(t, result)
	// A busy host lets a few attempts time out.
	if result.Failed*100 > result.Offered ||
		result.Offered != lifeRate*int64(lifeLoad/time.Second) {
		t.Error(counts(result))
	}
	late = samples < 5 || result.LateShare() > .01 || result.Failed > 0
	if total := result.Total; total != nil && total.Count() > 0 {
		drawn := 0.0
		for k := range result.Offered {
			drawn += plan.life(k).Seconds() / float64(result.Offered)
		}
		longer = max(0, total.Mean().Seconds()/drawn-1)
	}
	return got / samples, due / samples, longer, late
}

// TestLifetime_OfEach checks that each connection is closed at the end of its own life, in any
// order, and that none outlives a load of hold.
func TestLifetime_OfEach(t *testing.T) {
	silent := startResponder(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{0}})
	const n = 2000
	for _, test := range []struct {
		kind     Kind
		duration time.Duration
	}{{TCP, 0}, {Hold, time.Hour}, {Hold, time.Second}} {
		spec := Spec{
			Kind: test.kind, Target: "127.0.0.1", Ports: silent.Ports(), Count: n,
			Rate: 10_000, CatchUp: true, Duration: test.duration, Seed: 5, Close: CloseRST,
			Lifetime: lifetimes.Distribution{Shape: lifetimes.Exponential, Mean: time.Second / 2},
		}
		p, err := spec.plan()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Run(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, got)
		if got.Completed != n {
			t.Error(counts(got))
		}
		most := test.duration
		if most == 0 {
			most = time.Hour
		}
		longest, sum := time.Duration(0), 0.0
		for k := range int64(n) {
			begin, _ := p.schedule.At(k)
			life := min(p.life(k), most-begin)
			longest, sum = max(longest, life), sum+life.Seconds()
		}
		// A busy host lets connections end late, never early.
		mean := got.Total.Mean().Seconds()
		if got.Total.Max() < longest.Truncate(longest/100) || mean < .99*sum/n {
			t.Errorf("%s: the longest took %s, the mean %.3f s; want %s and %.3f s",
				test.kind, got.Total.Max(), mean, longest, sum/n)
		}
	}
}

// TestLifetime_OfFlows checks the datagrams of flows with a lifetime: one at the start, one at each
// interval and one at the end.
func TestLifetime_OfFlows(t *testing.T) {
	for _, test := range []struct {
		name string
		kind responders.Kind
		spec Spec
	}{
		{"answered", responders.Echo, Spec{Reply: true}},
		{"silent", responders.Silent, Spec{}},
		{"silent, few ports", responders.Silent, Spec{Reuse: true, SourcePorts: "21000-21004"}},
		{"answered, few ports", responders.Echo,
			Spec{Reply: true, Reuse: true, SourcePorts: "22000-22004"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := startResponder(t, responders.Spec{
				Kind: test.kind, Network: responders.UDP, Ports: []uint16{0},
			})
			spec := test.spec
			spec.Kind, spec.Target, spec.Ports = UDP, "127.0.0.1", to.Ports()
			spec.Count, spec.Rate, spec.CatchUp, spec.Seed = 100, 1000, true, 3
			spec.Interval, spec.Timeout = 50*time.Millisecond, time.Minute
			spec.Lifetime = lifetimes.Distribution{
				Shape: lifetimes.Exponential, Mean: 200 * time.Millisecond,
			}
			p, err := spec.plan()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != spec.Count {
				t.Error(counts(got))
			}
			want := spec.Count
			for k := range spec.Count {
				want += int64((p.life(k) + spec.Interval - 1) / spec.Interval)
			}
			if n := to.Counters().Requests; n != want {
				t.Errorf("%d datagrams came, want %d", n, want)
			}
		})
	}
}

// TestLifetime_Cancelled checks that those that are alive when the context ends are completed.
func TestLifetime_Cancelled(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.respond(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{80}})
	lab.respond(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{80},
	})
	for _, spec := range []Spec{
		{Kind: TCP}, {Kind: Hold}, {Kind: Handshake, Sources: crowd, Close: CloseRST},
		{Kind: UDP, Reply: true, SourcePorts: "5000-9999", Reuse: true},
		{Kind: UDP, SourcePorts: "5000-9999", Reuse: true},
	} {
		spec.Target, spec.Ports, spec.Namespace = serverAddress, []uint16{80}, lab.client.path()
		spec.Rate, spec.Duration, spec.Lifetime = 1000, time.Minute, lifetimes.Of(time.Hour)
		if spec.Kind == UDP {
			spec.Interval = 10 * time.Millisecond
		}
		ctx, cancel := context.WithCancel(t.Context())
		got, err := Run(ctx, spec, func(p Progress) {
			if p.Open > 200 {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		sound(t, got)
		if got.Completed < 150 || got.Failed != got.Causes[string(Cancelled)] {
			t.Errorf("%s: %s", spec.Kind, counts(got))
		}
	}
}

// TestLifetime_BrokenHandshakes checks that crafted connections which the peer ends within their
// lives fail, and count as broken.
func TestLifetime_BrokenHandshakes(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.respond(t, responders.Spec{Kind: responders.Close, Ports: []uint16{80}})
	const n = 100
	got, err := Run(t.Context(), Spec{
		Kind: Handshake, Target: serverAddress, Ports: []uint16{80}, Sources: crowd, Count: n,
		Close: CloseRST, Lifetime: lifetimes.Of(time.Minute), Namespace: lab.client.path(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, got)
	if got.Causes[string(ClosedEarly)] != n || got.Broken != n || got.Connect.Count() != n {
		t.Errorf("%s, %d broken, %d connected", counts(got), got.Broken, got.Connect.Count())
	}
}

// TestMillionLives checks what a million crafted connections with lifetimes need: their states, the
// sequence numbers of their peers and their ends.
func TestMillionLives(t *testing.T) {
	n := 200_000 // the race detector takes 20 s for a million
	if hosttest.Long() {
		n = 1_000_000
	}
	spec := Spec{
		Kind: Handshake, Target: "10.0.0.1", Ports: []uint16{80}, Sources: crowd, Count: int64(n),
		Close: CloseRST, Seed: 1,
		Lifetime: lifetimes.Distribution{Shape: lifetimes.LogNormal, Mean: time.Minute, Sigma: 1.2},
	}
	p, err := spec.plan()
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	l := &load{plan: p, pacer: pacing.NewPacer(nil, pacing.Limits{}), start: time.Now()}
	l.awaiting = newAwaiting(int64(n), 1)
	c := &crafted{base: base{load: l, tally: newTally()}}
	r := &replyReader{worker: c, load: l, living: new(living), closes: true}
	for i := range int64(n) {
		l.awaiting.reserve(1)
		l.awaiting.sent(i, 0)
		r.live(i, time.Millisecond, uint32(i))
	}
	grown := heap() - before
	t.Logf("%d lives take %d bytes", n, grown)
	if grown > int64(n)*42 {
		t.Error("they take more than 42 bytes each")
	}
	if l.awaiting.alive.Load() != int64(n) || r.living.ends.Len() != n {
		t.Errorf("%d are alive, %d have an end", l.awaiting.alive.Load(), r.living.ends.Len())
	}
	last := time.Duration(0)
	for r.living.ends.Len() > 0 {
		at, _ := r.living.ends.First()
		number := r.living.ends.Pop()
		if life := p.life(number) + time.Millisecond; at < last || at-life >= time.Millisecond {
			t.Fatalf("connection %d ends at %s, want %s", number, at, life)
		}
		r.over(number, at)
		last = at
	}
	if open := l.awaiting.open.Load(); open != 0 || c.tally.completed.Load() != int64(n) {
		t.Errorf("%d of %d are completed, %d open", c.tally.completed.Load(), n, open)
	}
}

// heap returns how many bytes of the heap are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
