package forecast

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/scenarios"
)

// ParseResidence parses the life of an entry in seconds: a duration with its unit, or the state in
// which the load leaves the entry, such as time_wait or udp, which stands for that timeout's
// default in a kernel of version v.
func ParseResidence(text string, v kernels.Version) (seconds float64, err error) {
	var d scenarios.Duration
	durationErr := d.UnmarshalText([]byte(text))
	if durationErr == nil {
		return d.Seconds(), nil
	}
	if text == "" || text[0] >= '0' && text[0] <= '9' || text[0] == '-' {
		return 0, durationErr
	}
	states := kernels.States(v)
	if n, ok := states[text]; ok {
		return float64(n), nil
	}
	names := slices.Sorted(maps.Keys(states))
	return 0, fmt.Errorf("%q is neither a duration, such as 120s, nor a state%s", text, spelling.Hint(text, names))
}
