package reports

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

// Forecast writes the prediction for each scenario of an experiment, and below it the tables that
// would carry the loads that overflow or come near; as JSON the list itself.
func Forecast(w io.Writer, format string, list []results.Forecast, o Options) error {
	return textOrJSON(forecastTable).render(w, "the forecast", format, list, o)
}

func forecastTable(out *bytes.Buffer, list []results.Forecast, o Options) error {
	heads := [][2]string{
		{"", "scenario"}, {"", "kernel"}, {"", "max"}, {"", "buckets"}, {"", "peak"}, {"fill", "%"},
		{"full", "after"}, {"over", "max"}, {"sustain-", "able/s"}, {"", "memory"},
	}
	var cells [][]string
	for _, f := range list {
		p, full, sustainable := f.Prediction, fullAfter(f.Prediction), none
		if p.SecondsToFull == nil && p.Overflow > 0 {
			full = "?" // the answers set the pace
		}
		if p.Sustainable > 0 {
			sustainable = results.Figure(p.Sustainable)
		}
		cells = append(cells, []string{
			f.Scenario, f.Kernel, results.Count(f.Table.Max), results.Count(f.Table.Buckets),
			results.Count(p.Peak), strings.TrimSuffix(filled(p.Peak, f.Table.Max), " %"), full,
			results.Count(p.Overflow), sustainable, results.Bytes(p.MemoryBytes),
		})
	}
	if err := textGrid(out, heads, 2, cells); err != nil {
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
	case f.Plan == nil:
		return f.Prediction.NATNote()
	case len(f.Plan.Sysctl) == 0:
		size := f.Plan.Size
		return "the kernel's own table, " + results.Count(size.Max) + " entries in " +
			results.Count(size.Buckets) + " buckets, would carry this load."
	default:
		return "a table that carries this load has " + results.Count(f.Plan.Size.Max) +
			" entries and takes " + results.Bytes(f.Plan.Memory) + " of memory when it is full."
	}
}

// Plan writes the sizing of a table: the kernel's default beside the size that carries the load,
// the lines for /etc/sysctl.d, and the reasons; as JSON the [results.Plan] itself.
func Plan(w io.Writer, format string, p results.Plan, o Options) error {
	return textOrJSON(planTable).render(w, "the plan", format, p, o)
}

func planTable(out *bytes.Buffer, p results.Plan, o Options) error {
	paced, count := p.AtDefault.Residence > 0, results.Count
	names := []string{
		"nf_conntrack_max", "nf_conntrack_buckets", "entries alive", "peak, expired ones included",
		"fill at the peak", "full after",
	}
	if paced {
		names = append(names, "sustainable, new per second")
	}
	names = append(names, "memory at the peak", "memory when full")
	heads, cells := [][2]string{{"", ""}}, make([][]string, len(names))
	for i, name := range names {
		cells[i] = []string{name}
	}
	add := func(head [2]string, size kernels.Size, at results.Prediction, full string) {
		column := []string{
			count(size.Max), count(size.Buckets), count(at.Alive), count(at.Peak),
			filled(at.Peak, size.Max), fullAfter(at),
		}
		if paced {
			column = append(column, results.Figure(at.Sustainable))
		}
		heads = append(heads, head)
		for i, cell := range append(column, results.Bytes(at.MemoryBytes), full) {
			cells[i] = append(cells[i], cell)
		}
	}
	own := [2]string{"the kernel's", "own table"}
	add(own, p.Default, p.AtDefault, results.Bytes(p.DefaultMemory))
	if p.Given != nil {
		given := [2]string{"the given", "table"}
		add(given, *p.Given, *p.AtGiven, results.Bytes(p.GivenMemory))
	}
	full := results.Bytes(p.Memory) + " (" + results.Percent(p.MemoryPart) + " of RAM)"
	add([2]string{"a table for", "this load"}, p.Size, p.AtSize, full)
	if err := textGrid(out, heads, 1, cells); err != nil {
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
	case p.SecondsToFull != nil && *p.SecondsToFull > 0:
		return results.Figure(*p.SecondsToFull) + " s"
	case p.Overflow > 0:
		return "at once"
	}
	return "never"
}
