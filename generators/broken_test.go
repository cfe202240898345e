package generators

import (
	"testing"
	"time"

	"github.com/google/nftables/expr"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestHeldConnectionsThatBreak checks that held connections that send bytes break when the peer
// stops acknowledging. The result counts them apart from connections that never opened.
func TestHeldConnectionsThatBreak(t *testing.T) {
	t.Parallel() // it mostly waits
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	r := lab.respond(t, responders.Spec{Kind: responders.Silent, Ports: []uint16{80}})
	const n = 30
	var live int64
	dropped := false
	got, err := Run(t.Context(), Spec{
		Kind: Hold, Target: serverAddress, Ports: []uint16{80}, Count: n, Rate: 200, CatchUp: true,
		Duration: time.Minute,
		Interval: 100 * time.Millisecond, Payload: 10, Timeout: 3 * time.Second,
		Namespace: lab.client.path(),
	}, func(p Progress) {
		live = max(live, p.Broken)
		if p.Open == n && r.Counters().Accepted == n && !dropped { // all are established
			dropped = true
			lab.server.rules(t, &expr.Verdict{Kind: expr.VerdictDrop}, toPort(80)...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Offered != n || got.Broken != n || got.Failed != n || live != n ||
		got.Causes[string(Timeout)] != n {
		t.Errorf("of %d broken %d (live %d), failed %d by %v; want all %d of them by timeout",
			got.Offered, got.Broken, live, got.Failed, got.Causes, n)
	}
	if got.Elapsed > 50*time.Second { // later, only the end of the load would have ended them
		t.Errorf("it took %s to notice", got.Elapsed)
	}
}
