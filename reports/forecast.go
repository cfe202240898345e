package reports

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
)

// Forecast writes the prediction for the scenarios of an experiment, one in a line, and below it
// the table that would carry the load of each that overflows or comes near. With format "json" it
// writes the list of [results.Forecast] itself.
func Forecast(w io.Writer, format string, list []results.Forecast, o Options) error {
	return formats[[]results.Forecast]{
		"json": asJSON[[]results.Forecast], "table": forecastTable,
	}.render(w, "the forecast", format, list, o)
}

func forecastTable(out *bytes.Buffer, list []results.Forecast, o Options) error {
	columns := []struct {
		head [2]string
		cell func(results.Forecast) string
	}{
		{[2]string{"", "scenario"}, func(f results.Forecast) string { return f.Scenario }},
		{[2]string{"", "kernel"}, func(f results.Forecast) string { return f.Kernel }},
		{[2]string{"", "max"}, func(f results.Forecast) string { return results.Count(f.Table.Max) }},
		{[2]string{"", "buckets"}, func(f results.Forecast) string { return results.Count(f.Table.Buckets) }},
		{[2]string{"", "peak"}, func(f results.Forecast) string { return results.Count(f.Prediction.Peak) }},
		{[2]string{"fill", "%"}, func(f results.Forecast) string {
			return strings.TrimSuffix(filled(f.Prediction.Peak, f.Table.Max), " %")
		}},
		{[2]string{"full", "after"}, func(f results.Forecast) string {
			if f.Prediction.Rate == 0 && f.Prediction.Overflow > 0 {
				return "?" // the answers set the pace
			}
			return fullAfter(f.Prediction)
		}},
		{[2]string{"over", "max"}, func(f results.Forecast) string { return results.Count(f.Prediction.Overflow) }},
		{[2]string{"sustain-", "able/s"}, func(f results.Forecast) string {
			if f.Prediction.Sustainable == 0 {
				return none
			}
			return results.Figure(f.Prediction.Sustainable)
		}},
		{[2]string{"", "memory"}, func(f results.Forecast) string { return results.Bytes(f.Prediction.MemoryBytes) }},
	}
	lines := make([]line, len(columns))
	for i, c := range columns {
		lines[i] = line{column: column{name: c.head[1], head: c.head, left: i < 2}}
		for _, f := range list {
			lines[i].cells = append(lines[i].cells, c.cell(f))
		}
	}
	if err := grid(out, lines, make([]row, len(list)), false); err != nil {
		return err
	}
	for _, group := range alike(list) {
		f := list[group[0]]
		words := forecastWords(f)
		if words == "" {
			continue
		}
		var names []string
		for _, i := range group {
			names = append(names, list[i].Scenario)
		}
		out.WriteByte('\n')
		paragraph(out, "", strings.Join(names, ", ")+": "+words, o.width())
		if f.Plan != nil {
			for _, s := range f.Plan.Sysctl {
				fmt.Fprintln(out, "    "+s)
			}
			for _, note := range f.Plan.Notes {
				paragraph(out, "  - ", note, o.width())
			}
		}
	}
	return nil
}

// alike groups the scenarios with the same comment, by their indices.
func alike(list []results.Forecast) [][]int {
	var groups [][]int
	said := map[string]int{}
	for i, f := range list {
		key := forecastWords(f)
		if f.Plan != nil {
			key += strings.Join(append(slices.Clone(f.Plan.Sysctl), f.Plan.Notes...), "\n")
		}
		at, ok := said[key]
		if !ok {
			at = len(groups)
			said[key], groups = at, append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	return groups
}

// forecastWords comments on a scenario beside its figures; empty where the table carries the load.
func forecastWords(f results.Forecast) string {
	switch {
	case !f.Tracked:
		return "nothing of the load is tracked."
	case f.Reason != "":
		return f.Reason + "."
	case f.Plan != nil && len(f.Plan.Sysctl) == 0:
		return fmt.Sprintf("the kernel's own table, %s entries in %s buckets, would carry this load.",
			results.Count(f.Plan.Size.Max), results.Count(f.Plan.Size.Buckets))
	case f.Plan != nil:
		return fmt.Sprintf("a table that carries this load has %s entries and takes %s of memory when it is full.",
			results.Count(f.Plan.Size.Max), results.Bytes(f.Plan.Memory))
	}
	return ""
}

// Plan writes the sizing of a table for readers: the kernel's default and the size that carries the
// load, side by side, the lines for /etc/sysctl.d, and the reasons. With format "json" it writes
// the [results.Plan] itself.
func Plan(w io.Writer, format string, p results.Plan, o Options) error {
	return formats[results.Plan]{
		"json": asJSON[results.Plan], "table": planTable,
	}.render(w, "the plan", format, p, o)
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
