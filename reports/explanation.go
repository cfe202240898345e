package reports

import (
	"bytes"
	_ "embed"
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
	"html":     explanationHTML,
}

// whatIfFormats are the formats of [WhatIf].
var whatIfFormats = formats[*explain.Explanation]{
	"table": func(b *bytes.Buffer, x *explain.Explanation, o Options) error {
		return sectionsTable(b, []section{changesSection(x)}, o)
	},
	"json": func(b *bytes.Buffer, x *explain.Explanation, _ Options) error {
		return results.WriteJSON(b, x.Changes)
	},
}

// WhatIf writes what each change of an explanation would leave, as a table or as JSON.
func WhatIf(w io.Writer, format string, x *explain.Explanation, o Options) error {
	return whatIfFormats.render(w, "what changes would leave", format, x, o)
}

// ExplanationFormats returns the names that [Explanation] accepts, in alphabetical order.
func ExplanationFormats() []string { return explanationFormats.names() }

// Explanation writes what is in a table: what was found first, then what each change would leave,
// then the figures.
func Explanation(w io.Writer, format string, x *explain.Explanation, o Options) error {
	return explanationFormats.render(w, "the explanation", format, x, o)
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
		{Title: "What was found", Sentences: found},
		sizeSection(x), changesSection(x), groupsSection(x), growthSection(x), ratesSection(x),
		agesSection(x),
		livesSection(x),
		peersSection(x), holdersSection("Sources", x.Sources),
		holdersSection("Destinations", x.Services),
		idleSection(x), expectationsSection(x), countersSection(x),
		{Title: "What was not shown", Sentences: x.Missing},
		{Title: "What such a listing cannot show", Sentences: x.Unknowable},
	}
	return slices.DeleteFunc(all, func(s section) bool {
		return len(s.Sentences) == 0 && len(s.Rows) == 0
	})
}

func sizeSection(x *explain.Explanation) section {
	s := section{Title: "The size of the table", Heads: [][2]string{
		{"", "count"}, {"", "max"}, {"", "fill"}, {"", "living"}, {"", "buckets"},
		{"mean", "chain"},
	}}
	size := x.Size
	if size.Count == nil && size.Max == nil && size.Buckets == nil {
		return s
	}
	living := none
	if x.Sample.Whole > 0 {
		living = results.Count(x.Sample.Whole)
	}
	s.Rows = [][]string{{
		optional(size.Count, results.Count), optional(size.Max, results.Count),
		optional(size.Fill, results.Percent), living, optional(size.Buckets, results.Count),
		optional(size.Chain, results.Figure),
	}}
	return s
}

func changesSection(x *explain.Explanation) section {
	s := section{
		Title: "What each change would leave",
		Heads: [][2]string{
			{"", "change"}, {"of the", "listing"}, {"in the", "table"}, {"", "within"},
			{"", "fill"}, {"count with", "expired ones"},
		},
		Left: 1,
	}
	more, slow, notes := false, 0.0, map[string]bool{}
	for _, c := range x.Changes {
		s.Rows = append(s.Rows, []string{
			changeWords(c), optional(c.Listed, results.Count), optional(c.Leaves, results.Count),
			optional(c.Within, results.Percent), optional(c.Fill, results.Percent),
			optional(c.Count, countWords),
		})
		more = more || c.MoreRefused
		slow = max(slow, c.Seconds)
		if c.Note != "" {
			notes[changeWords(c)+": "+c.Note+"."] = true
		}
	}
	s.Notes = slices.Sorted(maps.Keys(notes))
	if len(x.Changes) == 0 {
		return s
	}
	if slices.ContainsFunc(x.Changes, func(c explain.Change) bool { return c.Count != nil }) {
		s.Notes = append(s.Notes, "The count has expired entries too, which the kernel frees once "+
			"a minute while it has room. A larger table is simulated with a hash in proportion.")
	}
	s.Notes = append(s.Notes, "Steady states: entries that are there keep the time that they have.")
	if more {
		s.Notes = append(s.Notes,
			"The table is at its limit: connections that were refused until now come on top.")
	}
	if len(x.Assumed) > 0 {
		s.Notes = append(s.Notes, "Timeouts that the texts do not show are the kernel's own: "+
			assumed(x.Assumed)+".")
	}
	return s
}

// countWords tells what a simulation of the table counts.
func countWords(s explain.Simulated) string {
	words := results.Count(s.Least)
	if s.Most > s.Least {
		words += " to " + results.Count(s.Most)
	}
	switch {
	case s.RefusedPerSecond >= 1:
		words += ", refuses"
	case s.EvictedPerSecond >= 1:
		words += ", evicts"
	}
	return words
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
	case explain.ChangeTogether:
		return c.What + " together"
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
		Title: "What is in the table",
		Heads: [][2]string{{"", "protocol"}, {"", "service"}, {"", "state"}, {"", "kind"},
			{"", "entries"}, {"", "share"}, {"seconds left", "min / median / max"}},
		Left: 4,
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
		s.Rows = append(s.Rows, []string{
			protocol, g.Service, g.State, string(g.Kind), strconv.Itoa(g.Entries),
			results.Percent(float64(g.Entries) / float64(x.Sample.Entries)), left,
		})
	}
	if len(s.Rows) == 0 {
		return s
	}
	s.Notes = []string{fmt.Sprintf(
		"%d of %d listed entries are not ASSURED: early_drop may evict them.",
		x.Evictable, x.Sample.Entries)}
	if x.SourceTranslated+x.DestinationTranslated > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf(
			"Translated: the source of %d, the destination of %d.",
			x.SourceTranslated, x.DestinationTranslated))
	}
	return s
}

func ratesSection(x *explain.Explanation) section {
	s := section{Title: "What the entries say about rates",
		Heads: [][2]string{{"", ""}, {"", "entries"}, {"", "stay"}, {"", "per second"}}, Left: 1}
	for _, r := range x.Rates {
		stay, rate := fmt.Sprintf("%g s", r.Timeout), results.Figure(r.PerSecond)
		if r.ByAge {
			stay = fmt.Sprintf("%.1f s, evicted", r.MeanAge)
		} else if r.LowerBound {
			rate = ">= " + rate
		}
		s.Rows = append(s.Rows, []string{r.What, results.Count(r.Entries), stay, rate})
	}
	return s
}

func growthSection(x *explain.Explanation) section {
	s := section{Title: "The number of entries during the watch", Heads: [][2]string{
		{"", "seconds"}, {"", "first"}, {"", "last"}, {"", "least"}, {"", "most"},
		{"growth", "per second"}, {"of living", "ones"}, {"", "full in"},
	}}
	if g := x.Growth; g != nil {
		s.Rows = [][]string{{
			results.Figure(g.Seconds), results.Count(g.First), results.Count(g.Last),
			results.Count(g.Least), results.Count(g.Most),
			fmt.Sprintf("%.1f +- %.1f", g.PerSecond, g.Error), results.Figure(g.Living),
			optional(g.FullIn, wholeSeconds),
		}}
	}
	return s
}

func wholeSeconds(seconds float64) string { return fmt.Sprintf("%.0f s", seconds) }

func agesSection(x *explain.Explanation) section {
	s := section{Title: "Seconds since the last packet", Heads: [][2]string{
		{"", "protocol"}, {"", "state"}, {"", "kind"}, {"", "arrivals"}, {"", "entries"},
		{"", "timeout"}, {"age", "min / median / max"},
	}, Left: 4}
	for _, a := range x.Ages {
		s.Rows = append(s.Rows, []string{
			a.Protocol, a.State, string(a.Kind), string(a.Course), strconv.Itoa(a.Entries),
			fmt.Sprintf("%g s", a.Timeout),
			fmt.Sprintf("%.0f / %.0f / %.0f", a.Ages.Min, a.Ages.Median, a.Ages.Max),
		})
	}
	return s
}

func livesSection(x *explain.Explanation) section {
	s := section{Title: "How long connections are established", Heads: [][2]string{
		{"", "service"}, {"", "established"}, {"ended", "per second"}, {"mean", "life"},
		{"", "held"}, {"still there in the", "second listing"},
	}, Left: 1}
	for _, l := range x.Lives {
		life := none
		if l.Mean > 0 {
			life = fmt.Sprintf("%.3g s", l.Mean)
		}
		s.Rows = append(s.Rows, []string{
			l.Service, fmt.Sprintf("%.0f", l.Established), results.Figure(l.EndPerSecond), life,
			fmt.Sprintf("%.0f", l.Held), optional(l.Stayed, results.Percent),
		})
	}
	return s
}

func holdersSection(title string, h explain.Holders) section {
	s := section{
		Title: title, Heads: [][2]string{{"", ""}, {"", "entries"}, {"", "share"}}, Left: 1,
	}
	for i, t := range h.Top {
		const few, small = 3, 0.005
		if i >= few && t.Share < small {
			break // a page is for those that matter; JSON has all ten
		}
		s.Rows = append(s.Rows,
			[]string{t.Name, results.Count(t.Entries), results.Percent(t.Share)})
	}
	if h.Distinct > len(s.Rows) {
		s.Notes = []string{fmt.Sprintf("%d different ones in the listing.", h.Distinct)}
	}
	return s
}

func peersSection(x *explain.Explanation) section {
	s := section{Title: "Sources by class", Heads: [][2]string{
		{"", ""}, {"", "addresses"}, {"", "entries"}, {"", "share"}}, Left: 1}
	if len(x.Peers) == 1 {
		return s
	}
	for _, p := range x.Peers {
		s.Rows = append(s.Rows, []string{string(p.Class), strconv.Itoa(p.Addresses),
			strconv.Itoa(p.Entries), results.Percent(p.Share)})
	}
	return s
}

func idleSection(x *explain.Explanation) section {
	s := section{Title: "Established connections by the time since their last packet",
		Heads: [][2]string{{"", "service"}, {"", "entries"}, {"within", "60 s"}, {"", "silent"},
			{"silent", "sources"}, {"", "oldest"}, {"left", "a day"}, {"levels", "at"}}, Left: 1}
	for _, i := range x.Idle {
		level := none
		if i.Level > 0 {
			level = results.Count(i.Level)
		}
		s.Rows = append(s.Rows, []string{
			i.Service, strconv.Itoa(i.Entries), strconv.Itoa(i.Alive), strconv.Itoa(i.Silent),
			strconv.Itoa(i.Sources), fmt.Sprintf("%.0f s", i.Oldest),
			optional(i.PerDay, results.Figure), level,
		})
	}
	return s
}

func expectationsSection(x *explain.Explanation) section {
	s := section{Title: "Expectations of helpers", Heads: [][2]string{
		{"", "helper"}, {"", "class"}, {"", "flags"}, {"", "number"}, {"", "seconds left"},
	}, Left: 3}
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
		s.Rows = append(s.Rows,
			[]string{e.Helper, e.Class, strings.Join(flags, ","), strconv.Itoa(e.Entries), left})
	}
	return s
}

func countersSection(x *explain.Explanation) section {
	s := section{Title: "Counters since boot",
		Heads: [][2]string{{"", ""}, {"", "value"}, {"", "per second"}}, Left: 1}
	for _, c := range x.Counters {
		s.Rows = append(s.Rows,
			[]string{c.Name, results.Count(c.Value), optional(c.PerSecond, results.Figure)})
	}
	return s
}

func explanationTable(b *bytes.Buffer, x *explain.Explanation, o Options) error {
	return sectionsTable(b, sections(x), o)
}

func sectionsTable(b *bytes.Buffer, list []section, o Options) error {
	for i, s := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintln(b, emphasis(s.Title, o.Color))
		for _, text := range s.Sentences {
			paragraph(b, "- ", text, o.width())
		}
		if len(s.Rows) > 0 {
			if err := textGrid(b, s.Heads, s.Left, s.Rows); err != nil {
				return err
			}
		}
		for _, note := range s.Notes {
			paragraph(b, "  ", note, o.width())
		}
	}
	return nil
}

func explanationMarkdown(b *bytes.Buffer, x *explain.Explanation, _ Options) error {
	sectionsMarkdown(b, sections(x))
	return nil
}

func sectionsMarkdown(b *bytes.Buffer, list []section) {
	for _, s := range list {
		fmt.Fprintf(b, "### %s\n\n", markdownText(s.Title))
		for _, text := range s.Sentences {
			fmt.Fprintf(b, "- %s\n", markdownText(text))
		}
		if len(s.Rows) > 0 {
			lines := make([]line, len(s.Heads))
			for i, head := range s.Heads {
				name := strings.TrimSpace(head[0] + " " + head[1])
				lines[i].column = column{name: name, head: [2]string{"", name}, left: i < s.Left}
				for _, r := range s.Rows {
					lines[i].cells = append(lines[i].cells, r[i])
				}
			}
			markdownGrid(b, lines)
		}
		for _, note := range s.Notes {
			fmt.Fprintf(b, "%s\n", markdownText(note))
		}
		b.WriteByte('\n')
	}
}

// explanationHTML writes the explanation as one page that needs no network and no other file.
func explanationHTML(b *bytes.Buffer, x *explain.Explanation, _ Options) error {
	lead := ""
	if s := x.Size; s.Count != nil && s.Max != nil {
		lead = fmt.Sprintf("%s of %s entries", results.Count(*s.Count), results.Count(*s.Max))
	}
	return writeSections(b, "What is in the table", lead, sections(x))
}
