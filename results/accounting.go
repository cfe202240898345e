package results

import (
	"cmp"
	"slices"
)

// Accounting compares what the generator saw with what the DUT's kernel counted.
//
// The client's side balances: Offered = Completed + Failed + Unaccounted, where Failed is the sum
// of the causes. Unaccounted is 0 in a sound trial.
//
// The kernel's side bounds it: a refused packet or an evicted entry belongs to one connection, so
// it explains at most one failure. Failures beyond that number had another reason: Failed =
// Explained + Unexplained, and Unexplained is a lower bound.
type Accounting struct {
	Offered   int64   `json:"offered"`          // as load.offered
	Completed int64   `json:"completed"`        // as load.completed
	Failed    int64   `json:"failed"`           // as load.failed
	Causes    []Cause `json:"causes,omitempty"` // largest first
	// Unaccounted is offered - completed - failed, 0 in a valid trial.
	Unaccounted int64 `json:"unaccounted"`
	Refused     int64 `json:"refused"` // packets: drop + insert_failed, at most
	Evicted     int64 `json:"evicted"` // entries: early_drop
	// Explained is the largest number of failures that refused and evicted explain.
	Explained   int64 `json:"explained"`
	Unexplained int64 `json:"unexplained"` // failures that they do not explain, at least
}

// Cause is why some of the offered attempts failed, as the client saw it.
type Cause struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
}

// account balances a generator's figures against the kernel's.
//
// drop + insert_failed is the highest number of packets that conntrack can have refused. The two
// overlap: a lost clash counts in both, a long chain in insert_failed only, a full table in drop
// only (nf_conntrack_core.c). Conntrack never causes a refused connection (a reset in answer to a
// SYN), since a refused packet gets no answer.
func account(l Load, c Counters) Accounting {
	a := Accounting{
		Offered:   l.Offered,
		Completed: l.Completed,
		Causes:    causes(l.Causes),
		Refused:   c.Drop + c.InsertFailed,
		Evicted:   c.EarlyDrop,
	}
	var silent int64
	for _, cause := range a.Causes {
		a.Failed += cause.Count
		if cause.Name != CauseRefused {
			silent += cause.Count
		}
	}
	a.Unaccounted = a.Offered - a.Completed - a.Failed
	a.Explained = min(silent, a.Refused+a.Evicted)
	a.Unexplained = a.Failed - a.Explained
	return a
}

// unitFlows is the unit of a load whose flows are sent once, without the retries of a TCP socket.
const unitFlows = "flows"

// The causes of failure that the verdicts use; a generator may name others.
const (
	CauseTimeout = "timeout" // no answer within the time allowed
	causeReset   = "reset"   // RST on an open connection
	CauseRefused = "refused" // RST in answer to a SYN, or ICMP port unreachable
	causeEPERM   = "eperm"   // the sender's own kernel refused the packet: the sender is the DUT
	causeNoPort  = "no-port" // the generator had no free source port
)

func causes(m map[string]int64) []Cause {
	var list []Cause
	for name, n := range m {
		if n != 0 {
			list = append(list, Cause{name, n})
		}
	}
	slices.SortFunc(list, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return list
}
