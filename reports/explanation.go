package reports

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

// explanationFormats are the formats of [Explanation].
var explanationFormats = formats[*explain.Explanation]{
	"table": explanationTable,
	"json": func(b *bytes.Buffer, x *explain.Explanation, _ Options) error {
		return results.WriteJSON(b, x)
	},
	"markdown": explanationMarkdown,
}

// ExplanationFormats returns the names that [Explanation] accepts, in alphabetical order.
func ExplanationFormats() []string { return explanationFormats.names() }

// Explanation writes what is in a table: what was found first, then what each change would leave,
// then the figures.
func Explanation(w io.Writer, format string, x *explain.Explanation, o Options) error {
	return explanationFormats.render(w, "the explanation", format, x, o)
}

// section is a part of an explanation: sentences, then a table.
type section struct {
	title     string
	sentences []string
	heads     [][2]string
	left      int // columns that are aligned left
	rows      [][]string
	notes     []string // below the table
}

// sections returns the parts of an explanation that have something to show.
func sections(x *explain.Explanation) []section {
	var found []string
	for _, f := range x.Findings {
		text := f.Sentence
		if len(f.Experiments) > 0 {
			text += " Shipped experiments of this kind: " + strings.Join(f.Experiments, ", ") + "."
		}
		found = append(found, text)
	}
	all := []section{
		{title: "What was found", sentences: found},
		changesSection(x), groupsSection(x), ratesSection(x),
		holdersSection("Sources", x.Sources), holdersSection("Destinations", x.Services),
		idleSection(x), expectationsSection(x), countersSection(x),
		{title: "What was not shown", sentences: x.Missing},
		{title: "What such a listing cannot show", sentences: x.Unknowable},
	}
	return slices.DeleteFunc(all, func(s section) bool {
		return len(s.sentences) == 0 && len(s.rows) == 0
	})
}

func changesSection(x *explain.Explanation) section {
	s := section{
		title: "What each change would leave",
		heads: [][2]string{
			{"", "change"}, {"of the", "listing"}, {"in the", "table"}, {"", "fill"},
		},
		left: 1,
	}
	more, slow, notes := false, 0.0, map[string]bool{}
	for _, c := range x.Changes {
		s.rows = append(s.rows, []string{
			changeWords(c), optional(c.Listed, results.Count), optional(c.Leaves, results.Count),
			optional(c.Fill, results.Percent),
		})
		more = more || c.MoreRefused
		slow = max(slow, c.Seconds)
		if c.Note != "" {
			notes[changeWords(c)+": "+c.Note+"."] = true
		}
	}
	s.notes = slices.Sorted(maps.Keys(notes))
	if len(x.Changes) == 0 {
		return s
	}
	s.notes = append(s.notes, "Steady states: entries that are there keep the time that they have.")
	if more {
		s.notes = append(s.notes,
			"The table is at its limit: connections that were refused until now come on top.")
	}
	if len(x.Assumed) > 0 {
		s.notes = append(s.notes, "Timeouts that the texts do not show are the kernel's own: "+
			assumed(x.Assumed)+".")
	}
	return s
}

// assumed lists timeouts without the prefix of their keys.
func assumed(timeouts map[string]int64) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(timeouts)) {
		words = append(words,
			fmt.Sprintf("%s %d s", strings.TrimPrefix(key, kernels.Prefix), timeouts[key]))
	}
	return strings.Join(words, ", ")
}

// changeWords names a change.
func changeWords(c explain.Change) string {
	switch c.Kind {
	case explain.ChangeNotrack:
		return "NOTRACK for " + c.What
	case explain.ChangeDrop:
		return "drop " + c.What + " before it is tracked"
	case explain.ChangeLimit:
		return "limit " + c.What + " to " + c.Value + " each"
	}
	name := strings.TrimPrefix(c.What, kernels.Prefix)
	if c.From == "" {
		return name + " " + c.Value
	}
	return name + " " + c.From + " -> " + c.Value
}

// optional formats a figure that may be unknown.
func optional[T any](v *T, format func(T) string) string {
	if v == nil {
		return none
	}
	return format(*v)
}

func groupsSection(x *explain.Explanation) section {
	s := section{
		title: "What is in the table",
		heads: [][2]string{{"", "protocol"}, {"", "service"}, {"", "state"}, {"", "kind"},
			{"", "entries"}, {"", "share"}, {"seconds left", "min / median / max"}},
		left: 4,
	}
	ipv6 := slices.ContainsFunc(x.Groups, func(g explain.Group) bool { return g.Family == "ipv6" })
	for _, g := range x.Groups {
		left := none
		if g.Left != nil {
			left = fmt.Sprintf("%.0f / %.0f / %.0f", g.Left.Min, g.Left.Median, g.Left.Max)
		}
		protocol := g.Protocol
		if ipv6 {
			protocol = g.Family + " " + protocol
		}
		s.rows = append(s.rows, []string{
			protocol, g.Service, g.State, string(g.Kind), strconv.Itoa(g.Entries),
			results.Percent(float64(g.Entries) / float64(x.Sample.Entries)), left,
		})
	}
	if len(s.rows) == 0 {
		return s
	}
	s.notes = []string{fmt.Sprintf(
		"%d of %d listed entries are not ASSURED: early_drop may evict them.",
		x.Evictable, x.Sample.Entries)}
	if x.SourceTranslated+x.DestinationTranslated > 0 {
		s.notes = append(s.notes, fmt.Sprintf(
			"Translated: the source of %d, the destination of %d.",
			x.SourceTranslated, x.DestinationTranslated))
	}
	return s
}

func ratesSection(x *explain.Explanation) section {
	s := section{title: "What the entries say about rates",
		heads: [][2]string{{"", ""}, {"", "entries"}, {"", "stay"}, {"", "per second"}}, left: 1}
	for _, r := range x.Rates {
		stay, rate := fmt.Sprintf("%g s", r.Timeout), results.Figure(r.PerSecond)
		if r.ByAge {
			stay = fmt.Sprintf("%.1f s, evicted", r.MeanAge)
		} else if r.LowerBound {
			rate = ">= " + rate
		}
		s.rows = append(s.rows, []string{r.What, results.Count(r.Entries), stay, rate})
	}
	return s
}

func holdersSection(title string, h explain.Holders) section {
	s := section{
		title: title, heads: [][2]string{{"", ""}, {"", "entries"}, {"", "share"}}, left: 1,
	}
	for _, t := range h.Top {
		s.rows = append(s.rows,
			[]string{t.Name, results.Count(t.Entries), results.Percent(t.Share)})
	}
	if h.Distinct > len(h.Top) {
		s.notes = []string{fmt.Sprintf("%d different ones in the listing.", h.Distinct)}
	}
	return s
}

func idleSection(x *explain.Explanation) section {
	s := section{title: "Established connections by the time since their last packet",
		heads: [][2]string{{"", "service"}, {"", "entries"}, {"within", "60 s"}, {"", "silent"},
			{"silent", "sources"}, {"", "oldest"}, {"left", "a day"}, {"levels", "at"}}, left: 1}
	for _, i := range x.Idle {
		level := none
		if i.Level > 0 {
			level = results.Count(i.Level)
		}
		s.rows = append(s.rows, []string{
			i.Service, strconv.Itoa(i.Entries), strconv.Itoa(i.Alive), strconv.Itoa(i.Silent),
			strconv.Itoa(i.Sources), fmt.Sprintf("%.0f s", i.Oldest),
			optional(i.PerDay, results.Figure), level,
		})
	}
	return s
}

func expectationsSection(x *explain.Explanation) section {
	s := section{title: "Expectations of helpers", heads: [][2]string{
		{"", "helper"}, {"", "class"}, {"", "flags"}, {"", "number"}, {"", "seconds left"},
	}, left: 3}
	for _, e := range x.Expectations {
		var flags []string
		if e.Permanent {
			flags = append(flags, "PERMANENT")
		}
		if e.Inactive {
			flags = append(flags, "INACTIVE")
		}
		left := none
		if e.Left != nil {
			left = fmt.Sprintf("%g to %g", e.Left.Min, e.Left.Max)
		}
		s.rows = append(s.rows,
			[]string{e.Helper, e.Class, strings.Join(flags, ","), strconv.Itoa(e.Entries), left})
	}
	return s
}

func countersSection(x *explain.Explanation) section {
	s := section{title: "Counters since boot",
		heads: [][2]string{{"", ""}, {"", "value"}, {"", "per second"}}, left: 1}
	for _, c := range x.Counters {
		s.rows = append(s.rows,
			[]string{c.Name, results.Count(c.Value), optional(c.PerSecond, results.Figure)})
	}
	return s
}

func explanationTable(b *bytes.Buffer, x *explain.Explanation, o Options) error {
	for i, s := range sections(x) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintln(b, emphasis(s.title, o.Color))
		for _, text := range s.sentences {
			paragraph(b, "- ", text, o.width())
		}
		if len(s.rows) > 0 {
			if err := textGrid(b, s.heads, s.left, s.rows); err != nil {
				return err
			}
		}
		for _, note := range s.notes {
			paragraph(b, "  ", note, o.width())
		}
	}
	return nil
}

func explanationMarkdown(b *bytes.Buffer, x *explain.Explanation, _ Options) error {
	for _, s := range sections(x) {
		fmt.Fprintf(b, "### %s\n\n", s.title)
		for _, text := range s.sentences {
			fmt.Fprintf(b, "- %s\n", markdownText(text))
		}
		if len(s.rows) > 0 {
			lines := make([]line, len(s.heads))
			for i, head := range s.heads {
				name := strings.TrimSpace(head[0] + " " + head[1])
				lines[i].column = column{name: name, head: [2]string{"", name}, left: i < s.left}
				for _, r := range s.rows {
					lines[i].cells = append(lines[i].cells, r[i])
				}
			}
			markdownGrid(b, lines)
		}
		for _, note := range s.notes {
			fmt.Fprintf(b, "%s\n", markdownText(note))
		}
		b.WriteByte('\n')
	}
	return nil
}
