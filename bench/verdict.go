package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// want is a promised ratio: of a contender's median to the best median of some others. A want
// without others is a bound on the median itself.
type want struct {
	ours   string
	best   []string
	least  float64
	most   float64
	remark string
}

// verdict is the result of a want.
type verdict struct {
	row, what, got, byCPU, wanted, outcome, remark string
}

// The outcomes. A ratio that was not measured has not been reached.
const (
	passed      = "PASS"
	missed      = "MISS"
	notMeasured = "not measured"
)

// judge says what was wanted, what was measured and whether that suffices.
func (w want) judge(row string, records []record) verdict {
	v := verdict{row: row, what: w.ours, wanted: fmt.Sprintf("at least %.2f", w.least), outcome: notMeasured, remark: w.remark}
	if w.most > 0 {
		v.wanted = fmt.Sprintf("at most %.2f", w.most)
	}
	got := median(values(records, w.ours))
	if len(w.best) > 0 {
		best, name := 0.0, ""
		for _, other := range w.best {
			if m := median(values(records, other)); m > best {
				best, name = m, other
			}
		}
		if best == 0 {
			v.what += " / " + strings.Join(w.best, ", ")
			return v
		}
		got /= best
		v.what += " / " + name
		if mine, other := each(records, w.ours).total(), each(records, name).total(); mine > 0 && other > 0 {
			v.byCPU = fmt.Sprintf("%.2f", other/mine)
		}
	}
	if len(values(records, w.ours)) == 0 {
		return v
	}
	v.got, v.outcome = fmt.Sprintf("%.2f", got), passed
	if w.least > 0 && got < w.least || w.most > 0 && got > w.most {
		v.outcome = missed
	}
	return v
}

// print writes a row's medians, and where each tool spent its time, and returns the verdicts on its
// wants.
func (r row) print(w io.Writer, records []record) []verdict {
	fmt.Fprintf(w, "\n%s: %s\n", r.name, r.work)
	for _, c := range r.contenders {
		list := values(records, c.name)
		if len(list) == 0 {
			fmt.Fprintf(w, "  %-26s %s\n", c.name, notMeasured)
			continue
		}
		fmt.Fprintf(w, "  %-26s %14.2f %-13s (%.2f to %.2f, %d rounds)", c.name, median(list), r.unit, list[0], list[len(list)-1], len(list))
		if took := each(records, c.name); took.total() > 0 && strings.HasSuffix(r.unit, "/s") {
			fmt.Fprintf(w, "  each took %.2f µs of user and %.2f µs of kernel time", took.User, took.Kernel)
		}
		fmt.Fprintln(w)
	}
	var verdicts []verdict
	for _, want := range r.wants {
		verdicts = append(verdicts, want.judge(r.name, records))
	}
	return verdicts
}

// each returns a tool's median CPU time per unit of its work, in microseconds; zeros where that is
// unknown.
func each(records []record, name string) cpu {
	var users, kernels []float64
	for _, rec := range records {
		if work := rec.Value * rec.CPU.Wall; rec.Contender == name && work > 0 {
			users = append(users, 1e6*rec.CPU.User/work)
			kernels = append(kernels, 1e6*rec.CPU.Kernel/work)
		}
	}
	return cpu{User: median(sorted(users)), Kernel: median(sorted(kernels))}
}

// summarise writes the table of the promises. Beside each ratio per second it shows the ratio per
// second of CPU time, which other work on the machine distorts less.
func summarise(w io.Writer, verdicts []verdict) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tratio\tgot\tby CPU time\twanted\t\t")
	for _, v := range verdicts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.row, v.what, v.got, v.byCPU, v.wanted, v.outcome, v.remark)
	}
	_ = t.Flush() // to where the rows above have gone
}
