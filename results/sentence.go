package results

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// phrases are parts of a sentence.
type phrases []string

func (p *phrases) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// sentence words what happened in a valid trial and why, with the figures.
func sentence(t *Trial) string {
	var what string
	switch t.Verdict {
	case TableFull:
		what = tableFullWords(t)
	case ChainTooLong:
		what = chainWords(t.Conntrack)
	case Clash:
		what = clashWords(t) + ", " + heldAtMost(t.Conntrack)
	case NATExhausted:
		what = exhaustedPorts(t, t.refusedPackets().clash) + ", while " + heldAtMost(t.Conntrack)
	case StateLost:
		return finish(stateLostWords(t), t)
	case Evicting:
		what = evictingWords(t.Conntrack)
	case NotConntrack:
		return finish(notConntrackWords(t), t)
	default:
		return finish(cleanWords(t), t)
	}
	what = strings.Join(append([]string{what}, alsoWords(t)...), "; ") + ": " + outcome(t)
	what += around("; ", dropsOfRules(t), "")
	if t.Accounting.Unexplained > 0 {
		what += fmt.Sprintf("; conntrack's counters do not explain %s of the failures%s",
			Count(t.Accounting.Unexplained), stackWords(t, " (", ")"))
	}
	return finish(what, t)
}

// stateLostWords words failures that came of the state of entries.
func stateLostWords(t *Trial) string {
	parts := append([]string{outcome(t)}, stateWords(t)...)
	parts = append(parts, alsoWords(t)...)
	s := strings.Join(parts, "; ") + "; " + heldAtMost(t.Conntrack)
	if n := t.Accounting.Unexplained; n > 0 {
		s += fmt.Sprintf("; that explains all but %s of the failures", Count(n))
	}
	return s + stackWords(t, "; ", "")
}

// stateWords words the causes in the state of entries.
func stateWords(t *Trial) (words []string) {
	for _, loss := range lostState(t, t.Accounting.StateLost+t.Accounting.Unexplained) {
		words = append(words, loss.words)
	}
	return words
}

// finish adds what the bystanders saw and what the DUT refused, and completes the sentence.
func finish(s string, t *Trial) string {
	if p := t.Probe; p != nil && p.Lost > 0 {
		s += "; " + lostWords(t)
	}
	for _, r := range t.Refused {
		s += fmt.Sprintf("; %s was refused (%s)", r.Command, strings.TrimRight(r.Said, "."))
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// diedWords says of what the DUT died, and what its table could have taken.
func diedWords(t *Trial) string {
	c := t.Conntrack
	s := fmt.Sprintf("The DUT ran out of memory under the load and died (%s); in the last samples "+
		"%s", t.Died, heldAtMost(c))
	if c.Max > 0 {
		full := kernels.Size{Max: c.Max, Buckets: c.Buckets}.Bytes(c.ObjectBytes)
		s += fmt.Sprintf(", and a full one takes %s of the DUT's %s",
			Bytes(full), Bytes(t.MemoryBytes))
	}
	return s + ": lower nf_conntrack_max, or give the DUT more memory."
}

// lostWords words how many probes were lost, of each bystander where there are several.
func lostWords(t *Trial) string {
	if len(t.Probes) < 2 {
		return fmt.Sprintf("a bystander lost %s of %s",
			Count(t.Probe.Lost), plural(t.Probe.Sent, "probe"))
	}
	var parts phrases
	for _, name := range slices.Sorted(maps.Keys(t.Probes)) {
		if p := t.Probes[name]; p.Lost == 0 {
			parts.add("bystander %s lost none of %s", name, plural(p.Sent, "probe"))
		} else {
			parts.add("bystander %s lost %s of %s", name, Count(p.Lost), plural(p.Sent, "probe"))
		}
	}
	return list(parts)
}

func tableFullWords(t *Trial) string {
	c := t.Conntrack
	packets := plural(c.Drop, "packet")
	if n := refusedAtMax(t); n != c.Drop {
		packets = "about " + plural(n, "packet")
	}
	retries := ""
	if t.retries() {
		retries = ", retries included"
	}
	s := fmt.Sprintf("the kernel refused %s because no entry was free (drop%s)", packets, retries)
	highest := "though the highest count sampled was " + Count(c.Peak) + " of " + Count(c.Max)
	switch {
	case c.reachedMax():
		s = fmt.Sprintf("%s refused %s for new entries (drop%s)", fullWords(c), packets, retries)
	case c.Max > 0 && c.silent() && c.Fill() < 0.9:
		return fmt.Sprintf("the kernel refused %s (drop%s), %s and no log line says that the "+
			"table was full: an allocation may have failed", packets, retries, highest)
	case c.Max > 0:
		s += ", " + highest + ", since a short peak falls between two samples"
	}
	if c.silent() {
		s += " and logged nothing"
	}
	return s
}

// fullWords begins a sentence about a table that was full.
func fullWords(c Conntrack) string {
	return "the table was full at " + fullAt(c) + after(c.SecondsToFull) + " and the kernel"
}

// fullAt words the limit of a table that was full; an action may have put it below the count.
func fullAt(c Conntrack) string {
	if most := max(c.fullMax(), c.Max); c.Peak > most+most/50 {
		return fmt.Sprintf("a max of %s, with up to %s in it", Count(c.fullMax()), Entries(c.Peak))
	}
	return Entries(c.fullMax())
}

func chainWords(c Conntrack) string {
	s := fmt.Sprintf("hash chains grew too long: the kernel refused %s (chain_toolong) with at "+
		"most %s in %s",
		plural(c.ChainTooLong, "insert"), Entries(c.Peak), plural(c.Buckets, "bucket"))
	if c.Max > 0 {
		s += fmt.Sprintf(", at %s of max", Percent(c.Fill()))
	}
	if c.silent() {
		s += ", and the kernel logged nothing"
	}
	return s
}

func evictingWords(c Conntrack) string {
	by := "the table"
	if c.reachedMax() {
		by = fullWords(c)
	}
	s := by + " made room by evicting " + Entries(c.EarlyDrop) + " not yet ASSURED (early_drop)"
	if c.Drop == 0 {
		s += ", without a drop"
	}
	return s
}

// alsoWords words the findings beside the verdict.
func alsoWords(t *Trial) []string {
	c := t.Conntrack
	var parts phrases
	for _, v := range findings(t)[1:] {
		switch v {
		case TableFull:
			parts.add("%s refused at max (drop)", wasWere(refusedAtMax(t), "packet"))
		case ChainTooLong:
			n := plural(c.ChainTooLong, "insert")
			parts.add("%s failed on a long hash chain (chain_toolong)", n)
		case NATExhausted:
			parts = append(parts, exhaustedPorts(t, t.refusedPackets().clash))
		case StateLost:
			parts = append(parts, stateWords(t)...)
		case Clash:
			parts = append(parts, clashWords(t))
		case Evicting:
			parts.add("it evicted %s not yet ASSURED (early_drop)", Entries(c.EarlyDrop))
		}
	}
	return append(parts, harmlessWords(c)...)
}

// harmlessWords words the counters that rose and are no finding: tracking resolved a race, or
// called packets invalid, which only a rule may drop.
func harmlessWords(c Conntrack) (parts phrases) {
	if n := c.ClashResolve; n > 0 {
		races := counted(n, "race for a tuple was", "races for a tuple were")
		parts.add("%s resolved without a loss (clash_resolve)", races)
	}
	if c.Invalid > 0 {
		parts.add("%s out of state (invalid)", wasWere(c.Invalid, "packet"))
	}
	return parts
}

// clashWords words how many packets lost the race for a tuple.
func clashWords(t *Trial) string {
	packets := wasWere(t.refusedPackets().clash, "packet")
	return packets + " dropped after losing the race for a tuple (insert_failed)"
}

// notConntrackWords words failures that nothing in connection tracking explains. It rules out no
// cause: it names the measurements.
func notConntrackWords(t *Trial) string {
	parts := []string{outcome(t)}
	if rule := dropsOfRules(t); rule != "" {
		parts = append(parts, rule)
	}
	if t.Conntrack.Tracked {
		parts = append(parts, "connection tracking refused and evicted nothing, "+
			heldAtMost(t.Conntrack))
	} else {
		parts = append(parts, untrackedWords(t))
	}
	parts = append(parts, harmlessWords(t.Conntrack)...)
	return strings.Join(parts, "; ") + stackWords(t, "; ", "") + dropWords(t)
}

// dropWords names the kernel's own reasons for its drops, the most frequent first and two at most.
func dropWords(t *Trial) string {
	if t.Stack == nil {
		return ""
	}
	reasons := maps.Clone(t.Stack.DropReasons)
	delete(reasons, "NOT_SPECIFIED") // of drops without a reason
	return around("; the kernel's reasons for what it dropped: ", largest(reasons, 2), "")
}

// largest names the largest counts above 0; most bounds their number.
func largest(counts map[string]int64, most int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, n := range names[:min(most, len(names))] {
		if counts[n] > 0 {
			words = append(words, Count(counts[n])+" "+n)
		}
	}
	return list(words)
}

// around puts a text between two others; it returns "" for an empty text.
func around(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

func cleanWords(t *Trial) string {
	c := t.Conntrack
	s := outcome(t)
	exempt, oneWay := exemption(t)
	switch {
	case !c.Tracked:
		s += ", and " + untrackedWords(t)
	case oneWay:
		return s + ", yet the table held up to " + Entries(c.Peak) + " although " + exempt +
			": check that both directions are exempt"
	case exempt != "":
		s += ", and the table held " + Entries(c.Peak) + " at most because " + exempt
	case c.reachedMax():
		s += ", with the table full at " + fullAt(c) + after(c.SecondsToFull) +
			", and nothing refused or evicted: no room was left"
	default:
		s += ", " + heldAtMost(c)
	}
	s += around("; ", strings.Join(harmlessWords(c), "; "), "")
	if c.LogLines > 0 {
		s += "; the log says in " + plural(c.LogLines, "line") +
			" that a table was full, but drop did not rise in this one"
	}
	if t.failed() > 0 { // of hostile entries
		s += around("; ", dropsOfRules(t), "") + stackWords(t, "; ", "")
	}
	return s
}

// outcome words the result of the load, of each entry where there are several.
func outcome(t *Trial) string {
	names := EntryNames(t.Entries)
	var parts []string
	for _, name := range names {
		of := ""
		if len(names) > 1 || t.Entries[name].Role == Hostile {
			of = " of " + name
		}
		if t.Entries[name].Role == Hostile {
			of += " (hostile)"
		}
		parts = append(parts, outcomeOf(t.Entries[name], of, t.refusedPackets().sum() > 0))
	}
	return strings.Join(parts, ", ")
}

// outcomeOf words the result of an entry, whose name is in of; refused says that the kernel refused
// packets in the trial.
func outcomeOf(e Entry, of string, refused bool) string {
	what := cmp.Or(e.Unit, "requests") + of
	all := fmt.Sprintf("all %s %s ", Count(e.Offered), what)
	unseen := ""
	if e.OneWay() && refused {
		unseen = ", since the sender does not see what the DUT refuses"
	}
	switch {
	case e.Failed == 0 && e.OneWay():
		return all + "were sent" + unseen
	case e.Failed == 0 && (!refused || !e.Repeats()):
		return all + "completed"
	case e.Failed == 0 && e.Connect.Max > 0:
		return all + "completed after retries (slowest connect " + Figure(e.Connect.Max) + " ms)"
	case e.Failed == 0:
		return all + "completed after retries"
	case e.OneWay():
		return fmt.Sprintf("%s of %s %s were sent%s, the others failed (%s)",
			Count(e.Done()), Count(e.Offered), what, unseen, causeWords(causes(e.Causes)))
	case e.Done() == 0:
		return all + "failed (" + causeWords(causes(e.Causes)) + ")"
	default:
		return fmt.Sprintf("%s of %s %s failed (%s)",
			Count(e.Failed), Count(e.Offered), what, causeWords(causes(e.Causes)))
	}
}

var causePhrases = map[string]string{
	CauseTimeout: "timed out",
	causeReset:   "reset",
	CauseRefused: "refused",
	causeEPERM:   "EPERM",
	causeNoPort:  "no free port",
}

func causeWords(causes []Cause) string {
	words := make([]string, len(causes))
	for i, c := range causes {
		words[i] = Count(c.Count) + " " + cmp.Or(causePhrases[c.Name], c.Name)
	}
	return strings.Join(words, ", ")
}

// stackPhrases word the counters of the stack that can explain failures.
var stackPhrases = map[string]string{
	"listen_overflows":  "listen queue overflows (ListenOverflows)",
	"reqq_full_drop":    "SYNs dropped at a full queue (TCPReqQFullDrop)",
	"out_rsts":          "resets sent by the DUT (OutRsts)",
	"udp_no_ports":      "UDP datagrams to a closed port (NoPorts)",
	"udp_rcvbuf_errors": "UDP datagrams past a full buffer (RcvbufErrors)",
	"softnet_dropped":   "packets dropped in softirq (softnet)",
	"link_dropped":      "packets dropped at the link",
	"qdisc_dropped":     "packets dropped in the queueing discipline",
	"rules_dropped":     "packets dropped by rules",
	"memory_faults":     "lines in the log of memory that ran out",
}

// stackWords names the other counters of the stack that can explain failures which conntrack's
// cannot, the largest first and three at most. Resets explain refused connections only.
func stackWords(t *Trial, before, after string) string {
	if t.Stack == nil {
		return ""
	}
	counts := map[string]int64{}
	for _, c := range stackCounters {
		words := stackPhrases[c.Name]
		named := c.Name == "rules_dropped" && len(t.Rules) > 0 // by dropsOfRules
		if words != "" && !named && (c.Name != "out_rsts" || t.refusals() > 0) {
			counts[words] = *c.In(t.Stack)
		}
	}
	return around(before+"the stack counted ", largest(counts, 3), after)
}

// RulesText returns all rules as one text, to compare them.
func (c Configuration) RulesText() string {
	text := c.Rules
	for _, part := range [][2]string{
		{"ip6tables", c.Rules6}, {"nft", c.NFT}, {"ipset", c.IPSet}, {"ipvsadm", c.IPVS},
	} {
		if part[1] != "" {
			text += "# " + part[0] + "\n" + part[1]
		}
	}
	return text
}

func heldAtMost(c Conntrack) string {
	if c.Max <= 0 {
		return fmt.Sprintf("the table held %s at most", Entries(c.Peak))
	}
	return fmt.Sprintf("the table held %s of %s at most (%s)",
		Count(c.Peak), Entries(c.Max), Percent(c.Fill()))
}

// Entries words a number of entries.
func Entries(n int64) string { return counted(n, "entry", "entries") }

func wasWere(n int64, noun string) string { return counted(n, noun+" was", noun+"s were") }

func after(seconds *float64) string {
	if seconds == nil {
		return ""
	}
	return fmt.Sprintf(" after %s s", Figure(*seconds))
}

// Count formats a whole number: it separates thousands from 10,000 upwards, and keeps 4096.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	digits := strings.TrimPrefix(s, "-")
	if len(digits) < 5 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:len(s)-len(digits)])
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Figure formats a measured value with three significant digits, and whole from 100 upwards.
func Figure(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	abs := math.Abs(v)
	switch {
	case abs == 0:
		return "0"
	case abs >= 99.95:
		return Count(int64(math.Round(v)))
	case abs >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.0095:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 1, 64)
	}
}

// Percent formats a share; only 0 becomes 0 %, and nothing below 1 becomes 100 %.
func Percent(share float64) string {
	p := share * 100
	switch {
	case math.IsNaN(p) || math.IsInf(p, 0):
		return "–"
	case p == 0:
		return "0 %"
	case p > 0 && p < 0.1:
		return "<0.1 %"
	case p < 10:
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	case p < 100 && p > 99:
		return strconv.FormatFloat(math.Floor(p*10)/10, 'f', 1, 64) + " %"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + " %"
	}
}

// Bytes formats a size in binary units.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return fmt.Sprintf("%s %ciB", Figure(v), units[i])
}

// plural puts a count before its noun: "1 line", "12 lines".
func plural(n int64, noun string) string { return counted(n, noun, noun+"s") }

// counted puts a count before the word for one, or for another number.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// list joins words as a sentence does: "a", "a and b", "a, b and c".
func list(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
