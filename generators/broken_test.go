package generators

import (
	"testing"
	"time"

	"github.com/google/nftables/expr"

	"github.com/ctload/ctload/internal/netnstest"
)

// Held connections that talk break when nobody acknowledges any more, and are told apart from those that
// never opened.
func TestHeldConnectionsThatBreak(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	startIn(t, ResponderSpec{Kind: RespondSilent, Ports: []uint16{80}, Namespace: lab.server.path()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(1500 * time.Millisecond)
		lab.server.rules(t, &expr.Verdict{Kind: expr.VerdictDrop}, toPort(80)...)
	}()
	var live int64
	got, err := Run(t.Context(), Spec{
		Kind: Hold, Target: serverAddress, Ports: []uint16{80}, Count: 30, Rate: 200, Duration: 6 * time.Second,
		Interval: 100 * time.Millisecond, Payload: 10, Timeout: time.Second, Namespace: lab.client.path(),
	}, func(p Progress) { live = max(live, p.Broken) })
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if n := got.Offered; n < 10 || got.Broken != n || got.Failed != n || live != n || got.Causes[string(Timeout)] != n {
		t.Errorf("of %d broken %d (live %d), failed %d by %v; want all of them by timeout", n, got.Broken, live, got.Failed, got.Causes)
	}
	if got.Elapsed > 5*time.Second {
		t.Errorf("it took %s to notice", got.Elapsed)
	}
}
