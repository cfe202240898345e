package generators

import (
	"testing"
	"time"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestCloseModes checks that each close mode leaves its own state in the target's table.
func TestCloseModes(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const n = 500
	for _, test := range []struct {
		name      string
		spec      Spec
		responder responders.Kind
		state     string
	}{
		{"fin", Spec{Close: CloseFIN}, responders.Silent, "TIME_WAIT"},
		{"fin, the server first", Spec{CloseBy: Server}, responders.Close, "TIME_WAIT"},
		{"rst", Spec{Close: CloseRST}, responders.Silent, "CLOSE"},
		{
			"rst after data", Spec{Close: CloseRST, Payload: 100, Expect: 100}, responders.Echo,
			"CLOSE",
		},
		{"abandon", Spec{Close: CloseAbandon}, responders.Silent, "ESTABLISHED"},
		{"half-close", Spec{Close: CloseHalf}, responders.Leak, "CLOSE_WAIT"},
		{
			"held for a while", Spec{Lifetime: lifetimes.Of(200 * time.Millisecond)},
			responders.Silent, "TIME_WAIT",
		},
		{"http, the server first", Spec{Kind: HTTP}, responders.HTTP, "TIME_WAIT"},
		{"http, reset", Spec{Kind: HTTP, CloseBy: Client, Close: CloseRST}, responders.HTTP, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := newPair(t)
			lab.server.track(t)
			lab.respond(t, responders.Spec{Kind: test.responder, Ports: []uint16{80}})
			spec := test.spec
			if spec.Kind == "" {
				spec.Kind = TCP
			}
			spec.Target, spec.Ports, spec.SourcePorts = serverAddress, []uint16{80}, "2000-2999"
			spec.Count, spec.Concurrency, spec.Namespace = n, 50, lab.client.path()
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != n {
				t.Error(counts(got))
			}
			if test.state == "" {
				return // the peer may have closed before or not: either state
			}
			// On several CPUs a delayed ACK of the server may follow its FIN. The client's
			// TIME_WAIT answers that ACK, and the server answers with RST: the kernel itself puts
			// some entries in CLOSE.
			var states map[string]int
			defer func() {
				if t.Failed() {
					t.Logf("the states are %v", states)
				}
			}()
			hosttest.Eventually(t, "all entries "+test.state, func() bool {
				states, _ = lab.server.entries(t)
				some := states["CLOSE"]
				if test.state == "CLOSE" {
					some = 0
				}
				return states[test.state]+some == n && some <= n/2
			})

		})
	}
}

// TestHold checks that held connections stay open until the end, and send bytes at each interval.
func TestHold(t *testing.T) {
	t.Parallel() // it mostly waits
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.server.track(t)
	r := lab.respond(t, responders.Spec{Kind: responders.Echo, Ports: []uint16{80, 81}})
	const (
		n = 500
		// It is long enough that a host which stands still opens all of them before the end.
		duration = 6 * time.Second
		interval = 200 * time.Millisecond
		payload  = 10
	)
	open := int64(0)
	got, err := Run(t.Context(), Spec{
		Kind: Hold, Target: serverAddress, Ports: []uint16{80, 81}, Count: n, Rate: 1000,
		CatchUp: true, Duration: duration,
		Interval: interval, Payload: payload, Namespace: lab.client.path(),
	}, func(p Progress) {
		open = max(open, p.Open)
		if p.Elapsed < duration && p.Completed > 0 {
			t.Errorf("%d ended after %s", p.Completed, p.Elapsed)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, got)
	if got.Completed != n || open != n {
		t.Errorf("completed %d, %d were open at once, failed by %v",
			got.Completed, open, got.Causes)
	}
	// The last connection is held the shortest, by as much as this machine was late.
	shortest := duration - got.Sending - 10*time.Millisecond
	if got.Total.Min() < shortest {
		t.Errorf("the shortest was held for %s, want %s", got.Total.Min(), shortest)
	}
	// Each sends at every interval, or less where this machine stood still.
	most := int64(duration / interval)
	least := int64(shortest/interval) / 4
	if got.Sent < least*payload*n || got.Sent > most*payload*n {
		t.Errorf("%d bytes were sent, want %d to %d", got.Sent, least*payload*n, most*payload*n)
	}
	hosttest.Eventually(t, "all that was sent comes", func() bool {
		return r.Counters().Received == got.Sent
	})
	hosttest.Eventually(t, "all are closed", func() bool {
		states, _ := lab.server.entries(t)
		return states["ESTABLISHED"] == 0
	})
	if states, assured := lab.server.entries(t); lab.server.count(t) != n || assured != n {
		t.Errorf("the states are %v, %d are ASSURED", states, assured)
	}
}
