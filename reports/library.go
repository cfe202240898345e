package reports

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
)

// Catalogue writes the available experiments in groups: as text, or as JSON. Without a width each
// experiment has one line, for programs that read lines.
func Catalogue(w io.Writer, format string, list []results.Description, o Options) error {
	return textOrJSON(catalogueTable).render(w, "the experiments", format, list, o)
}

func catalogueTable(b *bytes.Buffer, list []results.Description, o Options) error {
	width := math.MaxInt
	if o.Width > 0 {
		width = o.width()
	}
	indent := widest(list, func(d results.Description) string { return d.Name }) + gap
	title := ""
	for _, d := range list {
		if d.Title != title {
			if title != "" {
				b.WriteByte('\n')
			}
			title = d.Title
			fmt.Fprintln(b, emphasis(title, o.Color))
		}
		label := runewidth.FillRight(d.Name, indent) + fmt.Sprintf("%7s  ", about(d.Seconds))
		paragraph(b, label, d.Summary, width)
	}
	b.WriteString("\nThe times are estimates without KVM; boots are quicker with it.\n")
	return nil
}

// Brief writes what one experiment is about, in a screen.
func Brief(w io.Writer, d results.Description, o Options) error {
	d = printable.Of(d)
	width := o.width()
	var b bytes.Buffer
	name := emphasis(d.Name, o.Color)
	fmt.Fprintf(&b, "%s  (%s; about %s without KVM)\n", name, d.Group, about(d.Seconds))
	paragraph(&b, "", d.Summary, width)
	part := func(title, text string) {
		if strings.TrimSpace(text) != "" {
			fmt.Fprintln(&b)
			paragraph(&b, runewidth.FillRight(title, briefIndent), text, width)
		}
	}
	part("story", d.Story)
	part("watch", d.Watch)
	indent := widest(d.Scenarios, func(s results.DescribedOption) string { return s.Name }) + gap
	title := "compares"
	fmt.Fprintln(&b)
	for _, s := range d.Scenarios {
		label := runewidth.FillRight(title, briefIndent)
		paragraph(&b, label+runewidth.FillRight(s.Name, indent), s.Summary, width)
		title = ""
	}
	part("sources", strings.Join(d.Sources, "; "))
	fmt.Fprintf(&b, "\nctload run %s\n", d.Name)
	_, err := w.Write(b.Bytes())
	return err
}

// briefIndent is the column at which the texts of [Brief] begin.
const briefIndent = 10

// Hits writes the results of a search, a line for each hit; it cuts long lines at the width.
func Hits(w io.Writer, hits []results.Hit, o Options) error {
	hits = printable.Of(hits)
	group := func(h results.Hit) string { return h.Group }
	place := func(h results.Hit) string { return fmt.Sprintf("%s:%d", h.Experiment, h.Line) }
	groups, places := widest(hits, group)+gap, widest(hits, place)+gap
	var b bytes.Buffer
	for _, h := range hits {
		line := runewidth.FillRight(h.Group, groups) + runewidth.FillRight(place(h), places) +
			h.Where + ": " + h.Text
		if o.Width > 0 {
			line = runewidth.Truncate(line, o.width(), "...")
		}
		fmt.Fprintln(&b, line)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// about formats a length of time roughly: 50 s, 1.5 min, 12 min.
func about(seconds float64) string {
	switch minutes := seconds / 60; {
	case seconds <= 50:
		return fmt.Sprintf("%.0f s", 10*math.Ceil(seconds/10))
	case minutes < 9.5:
		return fmt.Sprintf("%.4g min", math.Ceil(2*minutes)/2)
	default:
		return fmt.Sprintf("%.0f min", math.Ceil(minutes))
	}
}

// TimeLine writes what a trial of each scenario will do: as text, or as JSON.
func TimeLine(w io.Writer, format string, lines []results.TimeLine, o Options) error {
	return textOrJSON(timeLines).render(w, "the time line", cmp.Or(format, "table"), lines, o)
}

func timeLines(b *bytes.Buffer, lines []results.TimeLine, o Options) error {
	width := o.width()
	for _, line := range lines {
		b.WriteString(emphasis(line.Scenario, o.Color))
		b.WriteByte('\n')
		if len(line.Steady) > 0 {
			paragraph(b, "  normal: ", strings.Join(line.Steady, "; "), width)
		}
		indent := widest(line.Points, func(p results.Point) string { return p.When })
		for _, p := range line.Points {
			mark := "    "
			if p.Action {
				mark = "  * "
			}
			when := runewidth.FillLeft(p.When, min(indent, width/2))
			paragraph(b, "  "+when+mark, p.What, width)
		}
		b.WriteByte('\n')
	}
	b.WriteString("Times count from the start of the load; * is an action. Nothing was booted.\n")
	return nil
}
