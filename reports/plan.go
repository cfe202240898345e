package reports

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ctload/ctload/results"
)

// Plan writes the sizing of a table for readers: the kernel's default and the size that carries the
// load, side by side, the lines for /etc/sysctl.d, and the reasons. With format "json" it writes
// the [results.Plan] itself.
func Plan(w io.Writer, format string, p results.Plan, o Options) error {
	return formats[results.Plan]{"json": asJSON[results.Plan], "table": planTable}.render(w, "the plan", format, p, o)
}

func planTable(out *bytes.Buffer, p results.Plan, o Options) error {
	lines := []line{
		{column: column{name: "figure", head: [2]string{"", ""}, left: true}},
		{column: column{name: "default", head: [2]string{"the kernel's", "own table"}}},
		{column: column{name: "planned", head: [2]string{"a table for", "this load"}}},
	}
	add := func(name, own, planned string) {
		for i, text := range []string{name, own, planned} {
			lines[i].cells = append(lines[i].cells, text)
		}
	}
	a, b := p.AtDefault, p.AtSize
	add("nf_conntrack_max", results.Count(p.Default.Max), results.Count(p.Size.Max))
	add("nf_conntrack_buckets", results.Count(p.Default.Buckets), results.Count(p.Size.Buckets))
	add("entries alive", results.Count(a.Alive), results.Count(b.Alive))
	add("peak, expired ones included", results.Count(a.Peak), results.Count(b.Peak))
	add("fill at the peak", filled(a.Peak, p.Default.Max), filled(b.Peak, p.Size.Max))
	add("full after", fullAfter(a), fullAfter(b))
	if a.Sustainable > 0 {
		add("sustainable, new per second", results.Figure(a.Sustainable), results.Figure(b.Sustainable))
	}
	add("memory at the peak", results.Bytes(a.MemoryBytes), results.Bytes(b.MemoryBytes))
	add("memory when full", results.Bytes(p.DefaultMemory), fmt.Sprintf("%s (%s of RAM)", results.Bytes(p.Memory), results.Percent(p.MemoryPart)))
	if err := grid(out, lines, make([]row, len(lines[0].cells)), false); err != nil {
		return err
	}
	out.WriteByte('\n')
	for _, s := range p.Sysctl {
		fmt.Fprintln(out, s)
	}
	if len(p.Sysctl) > 0 {
		out.WriteByte('\n')
	}
	for _, note := range p.Notes {
		paragraph(out, "- ", note, o.width())
	}
	return nil
}

func filled(peak, limit int64) string {
	if limit <= 0 {
		return none
	}
	return results.Percent(float64(peak) / float64(limit))
}

func fullAfter(p results.Prediction) string {
	switch {
	case p.SecondsToFull != nil:
		return results.Figure(*p.SecondsToFull) + " s"
	case p.Overflow > 0:
		return "at once"
	}
	return "never"
}
