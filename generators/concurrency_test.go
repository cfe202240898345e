package generators

import (
	"fmt"
	"testing"
	"time"

	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
)

func TestWorkerConcurrency_AddsUp(t *testing.T) {
	for workers := 1; workers <= 9; workers++ {
		for concurrency := range 40 {
			spec := Spec{
				Kind: UDP, Target: "127.0.0.1", Ports: []uint16{9}, Duration: time.Second,
				Reply: true, Concurrency: concurrency, Workers: workers,
			}
			p, err := spec.plan()
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for i := range p.Workers {
				share := p.workerConcurrency(i)
				if concurrency > 0 && share == 0 {
					t.Errorf("worker %d of %d has no share of %d", i, p.Workers, concurrency)
				}
				sum += share
			}
			if sum != concurrency {
				t.Errorf("%d workers may have %d in flight, want %d", p.Workers, sum, concurrency)
			}
		}
	}
}

// TestConcurrency_IsNotExceededByWorkers checks that each worker begins its whole share while
// nothing is answered, with sockets of every kind.
func TestConcurrency_IsNotExceededByWorkers(t *testing.T) {
	silent := map[Kind]responders.Spec{
		UDP: {Kind: responders.Silent, Network: responders.UDP, Ports: []uint16{0}},
		TCP: {Kind: responders.Silent, Ports: []uint16{0}},
	}
	for kind, responder := range silent {
		to := startResponder(t, responder)
		for _, concurrency := range []int{1, 2, 3, 5, 8, 100} {
			for _, workers := range []int{1, 2, 3, 4} {
				t.Run(fmt.Sprintf("%s/%d by %d", kind, concurrency, workers), func(t *testing.T) {
					spec := Spec{
						Kind: kind, Target: "127.0.0.1", Ports: to.Ports(), Duration: time.Hour,
						Concurrency: concurrency, Workers: workers, Reply: kind == UDP,
					}
					if kind == TCP {
						spec.Expect = 1
					}
					p, err := spec.plan()
					if err != nil {
						t.Fatal(err)
					}
					l := &load{
						plan: p, start: time.Now(),
						pacer: pacing.NewPacer(p.schedule, pacing.Limits{Duration: p.Duration}),
					}
					open := int64(0)
					for i := range p.Workers {
						open += begunBy(t, l, i)
					}
					if open != int64(concurrency) {
						t.Errorf("%d are in flight, want %d", open, concurrency)
					}
				})
			}
		}
	}
}

// begunBy returns how many a worker of the load begins before it waits for one to end.
func begunBy(t *testing.T, l *load, number int) int64 {
	t.Helper()
	w, err := l.newWorker(number)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	begin := w.(interface {
		begin(now time.Duration) time.Duration
	}).begin
	for begin(l.now()) == 0 {
	}
	if failed := w.counts().failed.Load(); failed > 0 {
		t.Errorf("worker %d failed to begin %d", number, failed)
	}
	return w.counts().offered.Load()
}
