package generators

import (
	"fmt"
	"testing"
	"time"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestUDPAtOnce checks that each flow's datagram leaves AtOnce times from one tuple, and each copy
// is answered.
func TestUDPAtOnce(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.server.track(t)
	lab.respond(t, responders.Spec{
		Kind: responders.Echo, Network: responders.UDP, Ports: []uint16{53},
	})
	const n = 500
	got, err := Run(t.Context(), Spec{
		Kind: UDP, Target: serverAddress, Ports: []uint16{53}, SourcePorts: "2000-2499",
		Count: n, Rate: 2000, Exchanges: 1, AtOnce: 2, Payload: 40, Slack: time.Second,
		Namespace: lab.client.path(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, got)
	if got.Completed != n || got.Sent != 2*n*40 || got.Received != 2*n*40 {
		t.Errorf("completed %d, sent %d and received %d bytes, failed by %v",
			got.Completed, got.Sent, got.Received, got.Causes)
	}
	if entries := lab.server.counts(t, n); entries != n {
		t.Errorf("%d entries for %d flows", entries, n)
	}
}

// TestUDPAtOnceNeedsEveryAnswer checks that a flow fails when one of its two datagrams is not
// answered.
func TestUDPAtOnceNeedsEveryAnswer(t *testing.T) {
	l := &load{plan: &plan{Spec: Spec{AtOnce: 2}}, start: time.Now()}
	f := &datagrams{
		base: base{load: l, tally: newTally()}, flows: newFlows(), awaits: true,
		users: []int32{1},
	}
	slot := f.flows.add(flow{left: 1})
	f.flows.at(slot).due = f.extra()
	f.flows.waiting.Put(slot, time.Second)
	f.answered(slot)
	if done := f.tally.completed.Load(); done != 0 {
		t.Errorf("%d flows are completed after one of two answers", done)
	}
	f.answered(slot)
	if done := f.tally.completed.Load(); done != 1 {
		t.Errorf("%d flows are completed after both answers", done)
	}
}

// TestTCPAtOnce checks that the connections of a burst share a source port and go to different
// ports.
func TestTCPAtOnce(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	for _, n := range []int64{400, 401} { // whole bursts, and one incomplete burst
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			lab := newPair(t)
			lab.server.track(t)
			lab.respond(t, responders.Spec{
				Kind: responders.Silent, Ports: mustPorts(t, "5000-5003"),
			})
			got, err := Run(t.Context(), Spec{
				Kind: TCP, Target: serverAddress, Ports: mustPorts(t, "5000-5003"),
				SourcePorts: "20000-20199", Seed: 5,
				Count: n, Concurrency: 10, AtOnce: 2, Namespace: lab.client.path(),
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != n {
				t.Errorf("completed %d of %d, failed by %v", got.Completed, n, got.Causes)
			}
		})
	}
}

func TestBurst_Tuples(t *testing.T) {
	p, err := Spec{
		Kind: TCP, Target: "127.0.0.1", Ports: []uint16{80, 81, 82}, SourcePorts: "1000-1009",
		Seed: 3, Count: 20, Concurrency: 2, AtOnce: 2,
	}.plan()
	if err != nil {
		t.Fatal(err)
	}
	v, err := newBurst(&load{plan: p})
	if err != nil {
		t.Fatal(err)
	}
	defer v.barrier.Close()
	seen := map[uint16]bool{}
	for n := int64(0); n < 20; n += 2 {
		a, b := v.tuple(n), v.tuple(n+1)
		if a.Source != b.Source || a.Target == b.Target || seen[a.Source.Port()] {
			t.Errorf("burst %d: %v -> %v and %v -> %v", n/2, a.Source, a.Target, b.Source, b.Target)
		}
		seen[a.Source.Port()] = true
	}
}
