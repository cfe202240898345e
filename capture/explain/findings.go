package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

// Code names what a finding is.
type Code string

// The findings: about the table's limits, then about what fills it, then about other limits of the
// host that look alike from outside.
const (
	TableRefuses  Code = "table-refuses" // at its limit, and packets are refused
	TableEvicts   Code = "table-evicts"  // at its limit, and entries are evicted for new ones
	TableNearFull Code = "table-near-full"
	TableGrows    Code = "table-grows"
	TableIsCut    Code = "growth-is-cut"
	NotTheTable   Code = "not-the-table"
	Untracked     Code = "untracked"

	TimeWaitChurn   Code = "time-wait-churn"
	CloseWait       Code = "close-wait"
	SilentConnected Code = "silent-established"
	UDPFanOut       Code = "udp-fan-out"
	Scan            Code = "scan"
	HalfOpen        Code = "half-open"
	EchoSweep       Code = "echo-sweep"
	FewSources      Code = "few-sources"

	ExpectationsFull  Code = "expectations-full"
	NeighboursFull    Code = "neighbours-full"
	ReceiveBuffers    Code = "receive-buffers"
	ListenQueue       Code = "listen-queue"
	LostRaces         Code = "lost-races"
	LongChains        Code = "long-chains"
	HelperDropped     Code = "helper-dropped"
	NothingIsEvicted  Code = "nothing-evictable"
	HashIsSmall       Code = "small-hash"
	CountersOfOneCPU  Code = "counters-of-one-cpu"
	SelectionOfTable  Code = "selection"
	EntriesAreCut     Code = "cut"
	CountOverLiving   Code = "expired-entries"
	TimeoutsAssumed   Code = "timeouts-assumed"
	KernelIsUnknown   Code = "kernel-assumed"
	RatesAreLowBounds Code = "rates-are-lower-bounds"
)

// Finding is one thing that the capture shows.
type Finding struct {
	Code     Code   `json:"code"`
	Sentence string `json:"sentence"`
	// Experiments are the shipped experiments of the same incident.
	Experiments []string `json:"experiments,omitempty"`
}

func (x *Explanation) add(code Code, experiments []string, format string, args ...any) {
	x.Findings = append(x.Findings, Finding{code, fmt.Sprintf(format, args...), experiments})
}

// find says what is wrong.
func (x *Explanation) find(c *capture.Capture, b *book) {
	if c.Untracked {
		x.add(Untracked, nil, "Nothing on this host tracks connections.")
		return
	}
	x.findLimits(c, b)
	x.findFillers(b)
	x.findOthers(c)
	x.findCaveats(b)
}

// findLimits says how the table stands to its limit.
func (x *Explanation) findLimits(c *capture.Capture, b *book) {
	evicted, refused := x.growth("early_drop"), x.growth("drop")
	switch {
	case b.full():
		why := fmt.Sprintf("The table is at its limit: %d of %d entries", b.count(), *c.Sizes.Max)
		switch {
		case x.Log.TableFull > 0:
			x.add(TableRefuses, nil, "%s, and the kernel's log has %s of \"table full\"%s.",
				why, number(x.Log.TableFull, "line"), suppressed(x.Log))
		case refused > 0:
			x.add(TableRefuses, nil, "%s, and the kernel refuses %.0f packets a second (drop).",
				why, refused)
		case evicted > 0:
			x.add(TableEvicts, []string{"scanner", "small-hash"},
				"%s. The kernel makes room: it evicts %.0f entries a second (early_drop) and "+
					"refuses nothing, so that its log is silent.", why, evicted)
		case x.value("drop") > 0 || x.value("early_drop") > 0:
			x.add(TableRefuses, nil,
				"%s; since boot %d packets were refused and %d entries evicted.",
				why, x.value("drop"), x.value("early_drop"))
		default:
			x.add(TableRefuses, nil, "%s: new connections are refused, or evict others.", why)
		}
	case x.Size.Fill != nil && *x.Size.Fill >= 0.7:
		x.add(TableNearFull, nil, "The table is %.1f %% full: %d of %d entries.",
			*x.Size.Fill*100, b.count(), *c.Sizes.Max)
	case x.Size.Fill != nil && *x.Size.Fill < 0.5 && x.Log.TableFull == 0 &&
		evicted == 0 && refused == 0:
		x.add(NotTheTable, nil, "The table is not the fault: %d of %d entries (%.2g %%)%s. "+
			"A larger table or shorter timeouts change nothing about it.",
			b.count(), *c.Sizes.Max, *x.Size.Fill*100, x.quiet(c))
	case x.Log.TableFull > 0:
		now := ""
		if x.Size.Fill != nil {
			now = fmt.Sprintf(" When the count was read, the table was %.2g %% full: that was "+
				"another moment, or max has changed since.", *x.Size.Fill*100)
		}
		x.add(TableRefuses, nil, "The kernel's log has %s of \"table full\"%s.%s",
			number(x.Log.TableFull, "line"), suppressed(x.Log), now)
	}
	x.findGrowth()
	if b.full() && b.sample.Entries > 0 {
		share := float64(x.Evictable) / float64(b.sample.Entries)
		if share < 0.1 {
			x.add(NothingIsEvicted, []string{"held-established", "small-hash"},
				"%d of %d listed entries (%.1f %%) may be evicted: early_drop rarely finds room.",
				x.Evictable, b.sample.Entries, share*100)
		}
	}
	if x.Size.Chain != nil && *x.Size.Chain >= 8 {
		x.add(HashIsSmall, []string{"small-hash", "hash-resize"},
			"The hash is small: a chain has %.0f entries on average (%d entries in %d buckets, "+
				"each entry twice).", *x.Size.Chain, b.count(), *c.Sizes.Buckets)
	}
}

// findGrowth says how the number of entries went during the watch.
func (x *Explanation) findGrowth() {
	switch g := x.Growth; {
	case g == nil:
	case g.AtMax > 0:
		x.add(TableIsCut, nil, "The number of entries was at its limit at %d of %d readings: how "+
			"fast it would grow beyond it is unknown.", g.AtMax, g.Readings)
	case g.FullIn != nil:
		x.add(TableGrows, nil, "The table grows by %s living entries a second (within %s): at "+
			"this pace it is full in %s.", results.Figure(g.Living), results.Figure(3*g.Error),
			ago(*g.FullIn))
	}
}

// quiet names the signs of a full table that are absent.
func (x *Explanation) quiet(c *capture.Capture) string {
	var absent []string
	if len(c.Counters) > 0 && x.value("drop") == 0 && x.value("early_drop") == 0 {
		absent = append(absent, "nothing was refused or evicted since boot")
	}
	if c.Log.Read {
		absent = append(absent, "the log has no line of it")
	}
	if len(absent) == 0 {
		return ""
	}
	return ", " + strings.Join(absent, ", ")
}

// suppressed tells how many further messages the rate limit kept back.
func suppressed(l capture.Log) string {
	if l.Suppressed == 0 {
		return ""
	}
	during := ""
	if l.Seconds > 0 {
		during = fmt.Sprintf(" in %.0f s", l.Seconds)
	}
	return fmt.Sprintf(" (and %d rate-limited messages of any kind were suppressed%s)",
		l.Suppressed, during)
}

// findFillers says what fills the table: each class with at least three tenths of the entries.
func (x *Explanation) findFillers(b *book) {
	const large = 0.3
	total := float64(b.sample.Entries)
	if total == 0 {
		return
	}
	count := func(of func(capture.Entry) bool) (n int) {
		for _, e := range b.c.Table.Entries {
			if of(e) {
				n++
			}
		}
		return n
	}
	state := func(state string) (float64, int) {
		n := count(func(e capture.Entry) bool { return e.Protocol == "tcp" && e.State == state })
		if whole, ok := b.c.Table.States[state]; ok && b.sample.Whole > 0 {
			return float64(whole) / float64(b.sample.Whole), int(whole)
		}
		if b.sample.Scope == capture.Selection {
			return 0, n
		}
		return float64(n) / total, n
	}
	if share, n := state("TIME_WAIT"); share >= large {
		x.add(TimeWaitChurn, []string{"table-full", "time-wait-churn"},
			"%d entries (%.1f %%) are connections that have ended (TIME_WAIT)%s%s.", n, share*100,
			x.pace("closed connections"), ownSockets(b.c))
	}
	if share, n := state("CLOSE_WAIT"); share >= large {
		x.add(CloseWait, []string{"close-wait", "kube-proxy-defaults"},
			"%d entries (%.1f %%) are half closed (CLOSE_WAIT)%s: one side has sent its FIN and "+
				"the other does not close.", n, share*100, x.pace("half-closed connections"))
	}
	for _, idle := range x.Idle {
		if float64(idle.Silent) < large*total {
			continue
		}
		grows := ""
		if idle.PerDay != nil {
			grows = fmt.Sprintf("; their ages spread evenly: some %.0f a day are left behind%s",
				*idle.PerDay, b.fullBy(idle))
		}
		x.add(SilentConnected, []string{"five-days", "held-established"},
			"%d of %d established connections to %s have been silent for more than a minute, the "+
				"oldest for %s (%d sources)%s.", idle.Silent, idle.Entries, idle.Service,
			ago(idle.Oldest), idle.Sources, grows)
	}
	selection := b.sample.Scope == capture.Selection
	udp := count(func(e capture.Entry) bool { return e.Protocol == "udp" })
	if share := float64(udp) / total; share >= 0.5 && !selection && x.Sources.Distinct > 1 &&
		x.Size.Fill != nil && *x.Size.Fill >= 0.5 {
		x.add(UDPFanOut, []string{"udp-fan-out", "isp-nat-router", "dns-flood"},
			"%.0f %% of the entries are UDP; flows without an answer%s.", share*100,
			x.pace("udp flows without an answer"))
	}
	if share, n := state("SYN_SENT"); share >= large {
		x.add(Scan, []string{"scanner"}, "%d entries (%.1f %%) are attempts without an answer "+
			"(SYN_SENT)%s.", n, share*100, x.pace("attempts without an answer"))
	}
	if share, n := state("SYN_RECV"); share >= large {
		x.add(HalfOpen, []string{"syn-flood"}, "%d entries (%.1f %%) are half open (SYN_RECV)%s.",
			n, share*100, x.pace("attempts without a third packet"))
	}
	echoes := count(func(e capture.Entry) bool {
		return e.Original.Type != "" && e.Unreplied
	})
	if share := float64(echoes) / total; share >= large && !selection {
		pace := cmp.Or(x.pace("icmpv6 echoes without an answer"),
			x.pace("icmp echoes without an answer"))
		x.add(EchoSweep, nil, "%d entries (%.1f %%) are echo requests without an answer%s.",
			echoes, share*100, pace)
	}
	x.findSources(b)
}

// fullBy tells when the silent connections to a service will have filled the table; empty where
// their timeout stops them before.
func (b *book) fullBy(idle Idle) string {
	limit, factor := b.c.Sizes.Max, b.sample.Factor
	if limit == nil || factor == 0 || b.sample.Whole >= *limit {
		return ""
	}
	settled := float64(b.sample.Whole) + float64(idle.Level-int64(idle.Silent))*factor
	if settled <= float64(*limit) {
		return ""
	}
	in := func(entries int64) string {
		return ago(float64(max(0, *limit-entries)) / (*idle.PerDay * factor) * 86400)
	}
	return fmt.Sprintf("; at this pace the table is full in %s, or %s without expired entries",
		in(b.count()), in(b.sample.Whole))
}

// ownSockets tells how many connections the host itself has closed lately.
func ownSockets(c *capture.Capture) string {
	n := len(c.Sockets)
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; the host itself has %s in TIME_WAIT",
		number(c.Sockets[n-1].TimeWait, "socket"))
}

// findSources says whether few sources hold much of the table.
func (x *Explanation) findSources(b *book) {
	if b.sample.Scope == capture.Selection && !x.Sources.WholeTable || len(x.Sources.Top) == 0 {
		return
	}
	var names []string
	sum := 0.0
	for _, h := range x.Sources.Top {
		if h.Share < 0.04 {
			break
		}
		if b.serves(h.Name) {
			continue
		}
		names = append(names, fmt.Sprintf("%s (%d)", h.Name, h.Entries))
		sum += h.Share
	}
	if len(names) > 0 && sum >= 0.2 && (x.Sources.Distinct > 10 || sum < 0.99) {
		x.add(FewSources, []string{"scanner"},
			"Few hold much: %s, together %.1f %% of the entries.",
			strings.Join(names, ", "), sum*100)
	}
}

// pace tells the rate that a class of entries stands for.
func (x *Explanation) pace(what string) string {
	for _, r := range x.Rates {
		if r.What != what {
			continue
		}
		least := ""
		if r.LowerBound && !r.ByAge {
			least = "at least "
		}
		return fmt.Sprintf(": %s%s a second", least, results.Figure(r.PerSecond))
	}
	return ""
}

// grown tells how many of a counter since boot came during the watch.
func grown(c *capture.Capture, name string) string {
	before, ok := c.NetworkBefore[name]
	if !ok {
		return ""
	}
	return fmt.Sprintf(", %d of them during the watch", c.Network[name]-before)
}

// findOthers names other limits of the host that look like a full table from outside.
func (x *Explanation) findOthers(c *capture.Capture) {
	if n := len(c.Expectations); x.Log.ExpectFull > 0 ||
		c.Sizes.ExpectMax != nil && int64(n) >= *c.Sizes.ExpectMax && n > 0 {
		limit := ""
		if c.Sizes.ExpectMax != nil {
			limit = fmt.Sprintf(": %d of %d", n, *c.Sizes.ExpectMax)
		}
		x.add(ExpectationsFull, nil, "The table of expectations is full%s. It is not the table of "+
			"connections: %sexpect_max is its limit.", limit, kernels.Prefix)
	}
	if x.Log.HelperDrops > 0 {
		x.add(HelperDropped, nil, "A helper dropped packets: %s in the log.",
			number(x.Log.HelperDrops, "line"))
	}
	if x.Log.Neighbour > 0 {
		unresolved := ""
		if n := c.Neighbours["FAILED"] + c.Neighbours["INCOMPLETE"]; n > 0 {
			unresolved = fmt.Sprintf(" (%d neighbours did not answer)", n)
		}
		x.add(NeighboursFull, nil, "The neighbour table overflows%s: packets to new addresses of "+
			"the local network are lost. gc_thresh3 is its limit.", unresolved)
	}
	for _, name := range []string{"UdpRcvbufErrors", "Udp6RcvbufErrors"} {
		if n := c.Network[name]; n > 0 {
			of := ""
			if all := c.Network[strings.Replace(name, "RcvbufErrors", "InDatagrams", 1)]; all > 0 {
				of = fmt.Sprintf(" beside %d received (%.2g %%)", all, 100*float64(n)/float64(all))
			}
			x.add(ReceiveBuffers, nil, "Receive buffers of UDP sockets were full: %s is %d%s%s.",
				name, n, of, grown(c, name))
		}
	}
	for _, name := range []string{"TcpExtListenOverflows", "TcpExtListenDrops"} {
		if n := c.Network[name]; n > 0 {
			x.add(ListenQueue, nil, "Accept queues were full: %s is %d%s.", name, n, grown(c, name))
			break
		}
	}
	full := slices.ContainsFunc(x.Findings, func(f Finding) bool {
		return f.Code == TableRefuses || f.Code == TableEvicts
	})
	if n := x.value("insert_failed"); n > 0 && !full {
		x.add(LostRaces, []string{"dns-race"}, "insert_failed is %d since boot, drop %d: packets "+
			"that lost the race for a tuple count in both, so that drop does not show a full "+
			"table.",
			n, x.value("drop"))
	}
	if n := x.value("chaintoolong"); n > 0 {
		x.add(LongChains, []string{"small-hash"}, "chaintoolong is %d: the kernel refused entries "+
			"whose chain in the hash was too long.", n)
	}
}

// findCaveats says what to know before any figure.
func (x *Explanation) findCaveats(b *book) {
	if b.sample.Scope == capture.Selection {
		x.add(SelectionOfTable, nil,
			"The listing is a selection: its shares of states mean nothing.")
	}
	if b.sample.Cut > 0 {
		x.add(EntriesAreCut, nil, "%s in the middle and %s not counted.",
			number(int64(b.sample.Cut), "entry ends", "entries end"),
			map[bool]string{true: "is", false: "are"}[b.sample.Cut == 1])
	}
	switch more := x.Size.Expired; {
	case more == nil || *more <= 0 || b.count() == 0:
	case *more > b.sample.Whole:
		x.add(CountOverLiving, nil, "The listing stands for %s where the count is %d: they are of "+
			"two moments, or the listing is of a part of the table.",
			number(b.sample.Whole, "entry", "entries"), b.count())
	default:
		x.add(CountOverLiving, nil, "The count is %d above the listed entries: expired ones that "+
			"the collector has not freed, and those that came meanwhile.", *x.Size.Expired)
	}
	if slices.ContainsFunc(x.Counters, func(c Counter) bool { return c.FirstCPU }) {
		x.add(CountersOfOneCPU, nil, "The counters are those of the first CPU alone: this version "+
			"of conntrack shows no other.")
	}
	if b.full() && len(x.Rates) > 0 {
		x.add(RatesAreLowBounds, nil, "The table is at its limit: rates are lower bounds, since "+
			"what was refused is not in the table.")
	}
	if x.Kernel == "" {
		x.add(KernelIsUnknown, nil, "The kernel is unknown: defaults are those of %s.",
			b.version.String())
	}
}

// limits names the facts that the texts do not show, and those that such texts cannot show.
func (x *Explanation) limits(c *capture.Capture, b *book) {
	for _, part := range []struct {
		shown bool
		what  string
	}{
		{c.Sizes.Count != nil, "the count (conntrack -C)"},
		{c.Sizes.Max != nil, "nf_conntrack_max"},
		{c.Sizes.Buckets != nil, "nf_conntrack_buckets"},
		{len(c.Counters) > 0, "the counters (conntrack -S)"},
		{len(c.Counters) == 0 || len(c.Counters) > 1,
			"a second reading of the counters some seconds later: one reading has no rate"},
		{c.Log.Read, "the kernel's log (dmesg)"},
		{c.Kernel != "", "the kernel (uname -r)"},
		{b.sample.Scope != capture.Unknown || b.sample.Entries > 0,
			"a listing of the table (conntrack -L)"},
		{c.Rules.Read || !c.Rules.Empty(), "the rules (iptables-save, nft list ruleset)"},
	} {
		if !part.shown {
			x.Missing = append(x.Missing, part.what)
		}
	}
	if b.full() {
		x.Unknowable = append(x.Unknowable,
			"the offered rate, and how many connections were refused: a table at its limit holds "+
				"what it let in")
	}
	if len(x.Idle) > 0 {
		x.Unknowable = append(x.Unknowable, "whether silent connections are dead or only idle")
	}
	for _, f := range x.Findings {
		if f.Code == CloseWait {
			x.Unknowable = append(x.Unknowable, "which side does not close")
		}
	}
}

// number returns a number with its noun: one is singular, several the plural, by default with s.
func number(n int64, singular string, plural ...string) string {
	switch {
	case n == 1:
		return "1 " + singular
	case len(plural) > 0:
		return fmt.Sprintf("%d %s", n, plural[0])
	}
	return fmt.Sprintf("%d %ss", n, singular)
}

// ago formats a long time.
func ago(seconds float64) string {
	switch {
	case seconds >= 2*86400:
		return fmt.Sprintf("%.2f days", seconds/86400)
	case seconds >= 2*3600:
		return fmt.Sprintf("%.1f hours", seconds/3600)
	}
	return fmt.Sprintf("%.0f s", seconds)
}
