package results

// CounterMeaning tells what a kernel counts in which counter, found by an experiment on that
// kernel. Linux counted a packet that lost the race for a tuple in insert_failed and in drop, and
// one for which a chain was too long in chain_toolong and in insert_failed, until two changes in
// netfilter of September 2026 gave each its own counter; distributions carry such changes back.
type CounterMeaning struct {
	// ClashInDrop: a lost race counts in drop as well as in insert_failed.
	ClashInDrop bool `json:"clash_in_drop"`
	// ChainInInsertFailed: a chain that was too long counts in insert_failed as well.
	ChainInInsertFailed bool `json:"chain_in_insert_failed"`
	// ChainInDrop: it counts in drop as well.
	ChainInDrop bool `json:"chain_in_drop,omitempty"`
	// ChainMeasured says that a chain was made too long. Without it the kernel is taken to count
	// chains as it counts races: a namespace cannot resize the hash of its host.
	ChainMeasured bool `json:"chain_measured,omitempty"`
}

// earlierMeaning holds for the kernels before the changes.
var earlierMeaning = CounterMeaning{ClashInDrop: true, ChainInInsertFailed: true}

// MeaningOf derives the meaning from what one lost race counted and, unless it is nil, from what
// packets counted that met too long a chain. known is false where the experiment provoked neither.
func MeaningOf(race Counters, chains *Counters) (m CounterMeaning, known bool) {
	if race.InsertFailed == 0 {
		return m, false
	}
	m.ClashInDrop = race.Drop > 0
	m.ChainInInsertFailed = m.ClashInDrop
	if chains != nil && chains.ChainTooLong > 0 {
		// Half: other packets of the namespace may have been counted beside these.
		m.ChainInInsertFailed = 2*chains.InsertFailed >= chains.ChainTooLong
		m.ChainInDrop = 2*chains.Drop >= chains.ChainTooLong
		m.ChainMeasured = true
	}
	return m, true
}

// refusals are the packets that connection tracking refused an entry, by the reason: the same for
// every kernel, whatever it counts where.
type refusals struct {
	full  int64 // no entry was free
	chain int64 // the chain of the hash was too long
	clash int64 // another packet had taken the tuple
}

func (r refusals) sum() int64 { return r.full + r.chain + r.clash }

// refusalsOf sorts the counters by their meaning. Without one, figures that the earlier meaning
// cannot give tell that the kernel is a later one.
func refusalsOf(c Counters, m *CounterMeaning) refusals {
	if m == nil {
		m = &earlierMeaning
		if c.ChainTooLong > c.InsertFailed || c.InsertFailed-c.ChainTooLong > c.Drop {
			m = &CounterMeaning{}
		}
	}
	r := refusals{full: c.Drop, chain: c.ChainTooLong, clash: c.InsertFailed}
	if m.ChainInInsertFailed {
		r.clash = max(0, r.clash-r.chain)
	}
	if m.ClashInDrop {
		r.full = max(0, r.full-r.clash)
	}
	if m.ChainInDrop {
		r.full = max(0, r.full-r.chain)
	}
	return r
}

// CounterMeaning words what the kernel of the scenario's valid trials counts where; "" where no
// figure of them depends on it.
func (s *Scenario) CounterMeaning() string {
	for t := range s.ValidTrials() {
		if t.Meaning != nil {
			return t.Meaning.String()
		}
	}
	return ""
}

func (m CounterMeaning) String() string {
	race, chain := []string{"insert_failed"}, []string{"chain_toolong"}
	if m.ClashInDrop {
		race = append(race, "drop")
	}
	if m.ChainInInsertFailed {
		chain = append(chain, "insert_failed")
	}
	if m.ChainInDrop {
		chain = append(chain, "drop")
	}
	return "lost races in " + list(race) + ", long chains in " + list(chain)
}
