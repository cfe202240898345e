package compare

import (
	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

func s(v float64) *float64 { return &v }

// failing returns a load of n, of which failed timed out.
func failing(unit string, n, failed int64) *results.Load {
	l := &results.Load{Attempts: results.Attempts{
		Unit: unit, Offered: n, Completed: new(n - failed), Failed: failed,
	}}
	if failed > 0 {
		l.Causes = map[string]int64{results.CauseTimeout: failed}
	}
	return l
}

var nearly = cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })
