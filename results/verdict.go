package results

// Verdict says what happened to the DUT in a trial.
type Verdict string

// The verdicts. They are judged from the kernel's own counters, never from log lines alone.
const (
	Clean        Verdict = "clean"          // everything offered was completed
	TableFull    Verdict = "table-full"     // drop rose: new entries were refused at max
	Evicting     Verdict = "evicting"       // early_drop rose: unassured entries were evicted for new ones
	Clash        Verdict = "clash"          // insert_failed or clash_resolve rose: two packets raced for one tuple
	ChainTooLong Verdict = "chain-too-long" // chain_toolong rose: the hash is too small
	NotConntrack Verdict = "not-conntrack"  // failures that conntrack's counters do not explain
	Invalid      Verdict = "invalid"        // the measurement itself cannot be trusted
)

// severity orders verdicts for a summary over trials: the worst comes first.
var severity = map[Verdict]int{
	TableFull: 6, ChainTooLong: 5, Clash: 4, Evicting: 3, NotConntrack: 2, Clean: 1, Invalid: 0,
}

// Worse reports whether v is a worse finding than other. An invalid trial is no finding at all and
// worse than none.
func (v Verdict) Worse(other Verdict) bool { return severity[v] > severity[other] }
