package orchestrator

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ctload/ctload/agent/samplers"
)

// notes gathers what the samples say about the validity of a trial.
type notes struct {
	mu       sync.Mutex
	bad      []string
	missed   int64
	problems map[string]bool
}

func (n *notes) take(s samplers.Sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed = max(n.missed, s.Missed)
	for _, line := range s.Lines {
		if line.Kind.Bad() {
			n.bad = append(n.bad, fmt.Sprintf("%s: %s", line.Kind, line.Message))
		}
	}
	for _, p := range s.Problems {
		if n.problems == nil {
			n.problems = map[string]bool{}
		}
		n.problems[p] = true
	}
}

// reasons are sentences for a trial that cannot be trusted.
func (n *notes) reasons() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for i, line := range n.bad {
		if i == 3 {
			list = append(list, fmt.Sprintf("and %d more lines of that kind in the kernel log", len(n.bad)-i))
			break
		}
		list = append(list, "the DUT's kernel is not well: "+line)
	}
	for _, p := range slices.Sorted(maps.Keys(n.problems)) {
		list = append(list, "a figure could not be read: "+p)
	}
	return list
}
