package explain

import (
	"testing"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// count returns what the simulation of the first change counts.
func (x *Explanation) count(t *testing.T, key string) Simulated {
	t.Helper()
	for _, c := range x.Changes {
		if c.What == key && c.Count != nil {
			return *c.Count
		}
	}
	t.Fatalf("no simulation of %s: %+v", key, x.Changes)
	return Simulated{}
}

// TestExplain_Count counts expired entries, which stay for up to a minute, beside the living ones.
// A table in which the living ones fit may so be too small.
func TestExplain_Count(t *testing.T) {
	const perSecond, minute = 10, 60
	timeWait := kernels.Prefix + "tcp_timeout_time_wait"
	set := Options{Only: true, Set: []kernels.Setting{{Key: timeWait, Value: "60"}}}
	for limit, evicts := range map[int64]bool{65536: false, 800: true} {
		c := newTable(limit, limit)
		c.holds(perSecond*120, "tcp", "TIME_WAIT", capture.Assured, 80, 120)
		got := Explain(c.whole(min(limit, perSecond*120)), set).count(t, timeWait)
		living := int64(perSecond * 60)
		if got.Least <= living || got.Most > min(limit, living+perSecond*(minute+2)) {
			t.Errorf("max %d: %+v, %d living", limit, got, living)
		}
		if !evicts && got.EvictedPerSecond+got.RefusedPerSecond > 0 {
			t.Errorf("max %d: %+v", limit, got)
		}
		if evicts && got.Most < limit {
			t.Errorf("max %d: the table of %d does not fill: %+v", limit, limit, got)
		}
	}
}

// TestExplain_CountOfHeld takes from the count what a shorter timeout of ESTABLISHED removes.
func TestExplain_CountOfHeld(t *testing.T) {
	established := kernels.Prefix + "tcp_timeout_established"
	c := newTable(65536, 65536)
	c.holds(400, "tcp", "ESTABLISHED", capture.Assured, 5432, 432000)
	x := Explain(c.whole(400), Options{Only: true,
		Set: []kernels.Setting{{Key: established, Value: "108000"}}})
	if got := x.count(t, established); got.Least < 95 || got.Most > 105 {
		t.Errorf("%+v, want 100: a fourth", got)
	}
}
