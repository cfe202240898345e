package results

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict tells what happened to the DUT in a trial.
type Verdict string

// The verdicts. They follow from the kernel's own counters, never from log lines alone.
const (
	Clean        Verdict = "clean"          // everything offered was completed
	TableFull    Verdict = "table-full"     // drop rose: new entries were refused at max
	Evicting     Verdict = "evicting"       // early_drop rose: new entries evicted unassured ones
	Clash        Verdict = "clash"          // insert_failed rose: a packet lost a race for a tuple
	ChainTooLong Verdict = "chain-too-long" // chain_toolong rose: the hash is too small
	NATExhausted Verdict = "nat-exhausted"  // insert_failed and found rose: no source port was free
	// StateLost: failures came of entries that were gone, or that should have been: expired,
	// removed, stale, older than a rule.
	StateLost    Verdict = "state-lost"
	NotConntrack Verdict = "not-conntrack" // failures that conntrack's counters do not explain
	// DutDied: the DUT's kernel ran out of memory under the load, and ended.
	DutDied Verdict = "dut-died"
	Invalid Verdict = "invalid" // the measurement itself cannot be trusted
)

// severity orders verdicts for a summary over trials. An invalid trial is no finding at all.
var severity = map[Verdict]int{
	DutDied: 9, TableFull: 8, ChainTooLong: 7, NATExhausted: 6, StateLost: 5, Clash: 4, Evicting: 3,
	NotConntrack: 2, Clean: 1, Invalid: 0,
}

// Compare returns a positive number where v is a worse finding than other, 0 where they are alike.
func (v Verdict) Compare(other Verdict) int { return severity[v] - severity[other] }

// Judge sets Accounting, Verdict, Also and Sentence of a trial from its counters, its entries, its
// probes, its evidence and the reasons in Invalid. Judging again gives the same.
//
// A DUT that died (Died) is dut-died, whatever else. The kernel's counters decide otherwise, by
// what they mean on that kernel (see [CounterMeaning]), in this order:
//   - table-full: packets were refused for want of a free entry;
//   - chain-too-long: packets were refused for a chain that was too long;
//   - nat-exhausted: packets were refused since their tuples were taken, and NAT had tried many
//     ports for each (found);
//   - state-lost: failures that the counters do not explain came of an entry's state, as the
//     counters of rules, the entries at the end and the timeouts show;
//   - clash: packets were refused since another had taken the tuple;
//   - evicting: early_drop rose;
//   - not-conntrack: more failed than all this explains, hostile entries aside;
//   - clean: none of these. A race that was resolved harms nothing.
//
// Of table-full and chain-too-long the one that refused more packets comes first. Also is the next
// that applies. For an invalid trial nothing else matters. Log lines alone decide nothing: they are
// rate-limited, and suppressed ones surface late.
func Judge(t *Trial) {
	t.Accounting = account(t)
	t.Accounting.blame(lostState(t, t.Accounting.Unexplained))
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
	t.Sentence = sentence(t)
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
	c, refused := t.Conntrack, t.refusedPackets()
	var found []Verdict
	full := refusedAtMax(t)
	if full > 0 {
		found = append(found, TableFull)
	}
	if refused.chain > 0 {
		found = append(found, ChainTooLong)
		if refused.chain > full {
			slices.Reverse(found)
		}
	}
	exhausted := exhaustedPorts(t, refused.clash) != ""
	if exhausted {
		found = append(found, NATExhausted)
	}
	if t.Accounting.StateLost > 0 {
		found = append(found, StateLost)
	}
	if refused.clash > 0 && !exhausted {
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

// refusedPackets returns the packets that the kernel refused in the trial, by the reason.
func (t *Trial) refusedPackets() refusals { return refusalsOf(t.Conntrack.Counters, t.Meaning) }

// refusedAtMax returns how many packets were refused for lack of a free entry; 0 when other reasons
// can explain all of them and nothing else shows that the table was full.
func refusedAtMax(t *Trial) int64 {
	least := int64(0)
	if c := t.Conntrack; c.Drop > 0 && (c.reachedMax() || c.LogLines > 0) {
		least = 1
	}
	return max(least, t.refusedPackets().full)
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
	Refused     int64 `json:"refused"` // packets: at max, for a long chain, for a lost race
	Evicted     int64 `json:"evicted"` // entries: early_drop
	// Explained is the largest number of failures that refused and evicted explain.
	Explained int64 `json:"explained"`
	// StateLost is the largest number of the other failures that the state of entries explains.
	StateLost   int64 `json:"state_lost,omitempty"`
	Unexplained int64 `json:"unexplained"` // failures that none of these explains, at least
}

// blame takes what the state of entries explains from what nothing explains.
func (a *Accounting) blame(losses []stateLoss) {
	for _, loss := range losses {
		a.StateLost += loss.failures
	}
	a.StateLost = min(a.StateLost, a.Unexplained)
	a.Unexplained -= a.StateLost
}

// Cause gives the reason why some of the attempts failed, as the client saw it.
type Cause struct {
	Name  string `json:"name"`  // timeout, reset, refused and so on
	Count int64  `json:"count"` // of failures
}

// account balances the failures of a trial's entries against the kernel's figures.
//
// Connection tracking never causes a reset, since a refused packet gets no answer.
func account(t *Trial) Accounting {
	a := Accounting{Refused: t.refusedPackets().sum(), Evicted: t.Conntrack.EarlyDrop}
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

// The units of loads that are sent once, without the retries of a TCP socket.
const (
	unitFlows   = "flows"
	unitPackets = "packets"
)

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
