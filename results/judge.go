package results

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict is what happened to the DUT in a trial.
type Verdict string

// The verdicts. They follow from the kernel's own counters, never from log lines alone.
const (
	Clean     Verdict = "clean"      // everything offered was completed
	TableFull Verdict = "table-full" // drop rose: new entries were refused at max
	Evicting  Verdict = "evicting"   // early_drop rose: new entries evicted unassured ones
	// Clash: insert_failed or clash_resolve rose: two packets raced for one tuple.
	Clash        Verdict = "clash"
	ChainTooLong Verdict = "chain-too-long" // chain_toolong rose: the hash is too small
	NotConntrack Verdict = "not-conntrack"  // failures that conntrack's counters do not explain
	// DutDied: the DUT's kernel ran out of memory under the load, and ended.
	DutDied Verdict = "dut-died"
	Invalid Verdict = "invalid" // the measurement itself cannot be trusted
)

// severity orders verdicts for a summary over trials. An invalid trial is no finding at all.
var severity = map[Verdict]int{
	DutDied: 7, TableFull: 6, ChainTooLong: 5, Clash: 4, Evicting: 3, NotConntrack: 2, Clean: 1,
	Invalid: 0,
}

// Compare returns a positive number where v is a worse finding than other, 0 where they are alike.
func (v Verdict) Compare(other Verdict) int { return severity[v] - severity[other] }

// Judge sets Accounting, Verdict, Also and Sentence of a trial from its counters, its entries, its
// probes and the reasons in Invalid; conf is the configuration that the trial ran with and serves
// only to explain. Judging again gives the same.
//
// A DUT that died (Died) is dut-died, whatever else. The kernel's counters decide otherwise, in
// this order (nf_conntrack_core.c):
//   - table-full: drop rose by more than the lost clashes, since a lost clash counts in drop as
//     well; or it rose with the table at max or with a "table full" line;
//   - chain-too-long: chain_toolong rose;
//   - clash: insert_failed rose by more than chain_toolong, or clash_resolve rose;
//   - evicting: early_drop rose;
//   - not-conntrack: more failed than refused packets and evicted entries explain, not counting
//     what failed of hostile entries;
//   - clean: none of these.
//
// Of table-full and chain-too-long the one that refused more packets comes first. Also is the next
// that applies. For an invalid trial nothing else matters. Log lines alone decide nothing: they are
// rate-limited, and suppressed ones surface late.
func Judge(t *Trial, conf Configuration) {
	t.Accounting = account(t)
	t.Also = ""
	if t.Died != "" {
		t.Verdict, t.Sentence = DutDied, diedWords(t)
		return
	}
	addUnsound(t)
	if len(t.Invalid) > 0 {
		t.Verdict = Invalid
		t.Sentence = "Not measured validly: " + t.WhyInvalid()
		return
	}
	found := findings(t)
	t.Verdict = found[0]
	if len(found) > 1 {
		t.Also = found[1]
	}
	t.Sentence = sentence(t, conf)
}

// addUnsound adds the reasons that the figures themselves give.
func addUnsound(t *Trial) {
	var offered int64
	for _, name := range EntryNames(t.Entries) {
		e := t.Entries[name]
		offered += e.Offered
		unbalanced := func(format string, args ...any) {
			text := fmt.Sprintf("the load of %s does not add up: ", name)
			t.Invalidate(Reason{CodeUnbalanced, text + fmt.Sprintf(format, args...)})
		}
		if e.Offered != e.Done()+e.Failed {
			unbalanced("%s offered, %s %s, %s failed",
				Count(e.Offered), Count(e.Done()), e.DoneWord(), Count(e.Failed))
		}
		if caused := total(e.Causes); caused != e.Failed {
			unbalanced("%s failed, but its causes sum to %s", Count(e.Failed), Count(caused))
		}
	}
	if len(t.Invalid) == 0 && offered == 0 {
		t.Invalidate(Reason{CodeNoLoad, "no load was offered"})
	}
}

// total returns the sum of counts.
func total(counts map[string]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// findings lists what happened, the verdict first; it is never empty.
func findings(t *Trial) []Verdict {
	c := t.Conntrack
	var found []Verdict
	full := refusedAtMax(c)
	if full > 0 {
		found = append(found, TableFull)
	}
	if c.ChainTooLong > 0 {
		found = append(found, ChainTooLong)
		if c.ChainTooLong > full {
			slices.Reverse(found)
		}
	}
	if lostClashes(c.Counters) > 0 || c.ClashResolve > 0 {
		found = append(found, Clash)
	}
	// Eviction comes before a clash beside a full table, since the two belong together.
	if c.EarlyDrop > 0 {
		at := len(found)
		if full > 0 {
			at = slices.Index(found, TableFull) + 1
		}
		found = slices.Insert(found, at, Evicting)
	}
	if t.Accounting.Unexplained > 0 {
		found = append(found, NotConntrack)
	}
	if len(found) == 0 {
		return []Verdict{Clean}
	}
	return found
}

// lostClashes returns how many packets lost the race for a tuple. insert_failed also counts chains
// that were too long, and entries that died before they were confirmed, which is rare.
func lostClashes(c Counters) int64 { return max(0, c.InsertFailed-c.ChainTooLong) }

// refusedAtMax returns how many packets were refused for lack of a free entry; 0 when lost clashes
// can explain all of them and nothing else shows that the table was full.
func refusedAtMax(c Conntrack) int64 {
	least := int64(0)
	if c.Drop > 0 && (c.reachedMax() || c.LogLines > 0) {
		least = 1
	}
	return max(least, c.Drop-lostClashes(c.Counters))
}

// reachedMax reports whether a sample found the table full.
func (c Conntrack) reachedMax() bool { return c.FullAt > 0 || c.Max > 0 && c.Peak >= c.Max }

// fullMax returns the max that was reached.
func (c Conntrack) fullMax() int64 { return cmp.Or(c.FullAt, c.Max) }

// Accounting compares the failures that the generators saw with what the DUT's kernel counted. It
// leaves out hostile entries.
//
// A refused packet or an evicted entry belongs to one attempt, whatever the attempt's unit, so it
// explains at most one failure. Failures beyond that number had another reason: Failed =
// Explained + Unexplained, and Unexplained is a lower bound.
type Accounting struct {
	Offered   *int64  `json:"offered,omitempty"`   // as load.offered
	Completed *int64  `json:"completed,omitempty"` // as load.completed
	Failed    int64   `json:"failed"`              // attempts of all entries that are not hostile
	Causes    []Cause `json:"causes,omitempty"`    // of failed, largest first
	// Unaccounted are offered attempts without a result, 0 in a valid trial.
	Unaccounted int64 `json:"unaccounted"`
	Refused     int64 `json:"refused"` // packets: drop + insert_failed, at most
	Evicted     int64 `json:"evicted"` // entries: early_drop
	// Explained is the largest number of failures that refused and evicted explain.
	Explained   int64 `json:"explained"`
	Unexplained int64 `json:"unexplained"` // failures that they do not explain, at least
}

// Cause is why some of the attempts failed, as the client saw it.
type Cause struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
}

// account balances the failures of a trial's entries against the kernel's figures.
//
// drop + insert_failed is the most that conntrack can have refused: a lost clash counts in both, a
// long chain in insert_failed only, a full table in drop only (nf_conntrack_core.c). Conntrack
// never causes a reset, since a refused packet gets no answer.
func account(t *Trial) Accounting {
	c := t.Conntrack
	a := Accounting{Refused: c.Drop + c.InsertFailed, Evicted: c.EarlyDrop}
	if t.Load != nil {
		a.Offered, a.Completed = &t.Load.Offered, t.Load.Completed
	}
	failed := map[string]int64{}
	for _, name := range own(t.Entries) {
		e := t.Entries[name]
		a.Unaccounted += e.Offered - e.Done() - e.Failed
		for cause, n := range e.Causes {
			failed[cause] += n
		}
	}
	a.Failed, a.Causes = total(failed), causes(failed)
	a.Explained = min(a.Failed-failed[CauseRefused], a.Refused+a.Evicted)
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
