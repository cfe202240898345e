package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// row is a line of the table: some work, its contenders, and by how much ours must lead.
type row struct {
	name, unit, work string
	setup            setup
	contenders       []contender
	wants            []want
	together         bool // the contenders are figures of one measurement, in order
}

// setup makes what a row needs and returns a function that removes it.
type setup func(ctx context.Context) (func() error, error)

// contender does a row's work.
type contender struct {
	name    string
	program string // the required program; "": ours
	measure measurement
}

// measurement does some work once and returns how much of it was done per second, or another
// figure that a row measures.
type measurement func(ctx context.Context) (float64, error)

// command makes the command of a tool.
type command func(ctx context.Context) *exec.Cmd

// record is one measurement.
type record struct {
	Row       string  `json:"row"`
	Contender string  `json:"contender"`
	Round     int     `json:"round"`
	Value     float64 `json:"value"`
	Others    float64 `json:"others"` // percent of the machine that other work used meanwhile
	CPU       cpu     `json:"cpu"`
}

// limitForEach bounds one measurement.
const limitForEach = 2 * time.Minute

func measureRows(ctx context.Context, o options, stdout, stderr io.Writer) error {
	l, err := newLab(ctx)
	if err != nil {
		return err
	}
	rows := l.rows()
	for _, name := range o.rows {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			return fmt.Errorf("no row %q", name)
		}
	}
	var records []record
	var verdicts []verdict
	for _, r := range rows {
		if len(o.rows) > 0 && !slices.Contains(o.rows, r.name) {
			continue
		}
		found, err := r.run(ctx, l, o, stderr)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		records = append(records, found...)
		verdicts = append(verdicts, r.print(stdout, found)...)
	}
	summarise(stdout, verdicts)
	data, err := json.MarshalIndent(records, "", "  ")
	if err != nil || o.json == "" {
		return err
	}
	return os.WriteFile(o.json, data, 0o644)
}

// run measures every contender once a round, each round beginning with another one.
func (r row) run(
	ctx context.Context, l *lab, o options, stderr io.Writer,
) (records []record, err error) {
	teardown, err := r.setup(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, teardown()) }()
	for round := range o.rounds {
		for i := range r.contenders {
			if !r.together {
				i = (round + i) % len(r.contenders)
			}
			c := r.contenders[i]
			if c.program != "" {
				if _, err := exec.LookPath(c.program); err != nil {
					fmt.Fprintf(stderr, "%s: %s is not installed\n", r.name, c.program)
					continue
				}
			}
			got, err := c.undisturbed(ctx, l, o.idle, !r.together || i == 0)
			if err != nil {
				return records, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			got.Row, got.Contender, got.Round = r.name, c.name, round+1
			fmt.Fprintf(stderr, "%-10s round %d  %-24s %14.2f %s "+
				"(others used %.0f %% of the machine)\n",
				r.name, got.Round, c.name, got.Value, r.unit, got.Others)
			records = append(records, got)
			if err := rest(ctx, 300*time.Millisecond); err != nil {
				return records, err
			}
		}
	}
	return records, nil
}

// values returns a contender's measurements.
func values(records []record, name string) []float64 {
	var list []float64
	for _, rec := range records {
		if rec.Contender == name {
			list = append(list, rec.Value)
		}
	}
	return list
}

// median returns the median of a list, 0 for an empty one.
func median(list []float64) float64 {
	n := len(list)
	if n == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return (list[(n-1)/2] + list[n/2]) / 2
}

// cpu is a tool's CPU time, its own and the kernel's for it, and how long it ran, in seconds. It
// includes the kernel's work for the target in the same system calls, on this one machine.
type cpu struct {
	User   float64 `json:"user"`
	Kernel float64 `json:"kernel"`
	Wall   float64 `json:"wall"`
}

func (c cpu) total() float64 { return c.User + c.Kernel }

// ran adds the CPU time and the run time of an ended tool, started at since, to those of the
// measurement.
func (l *lab) ran(cmd *exec.Cmd, since time.Time) {
	if ended := cmd.ProcessState; ended != nil {
		l.spent.User += ended.UserTime().Seconds()
		l.spent.Kernel += ended.SystemTime().Seconds()
		l.spent.Wall = max(l.spent.Wall, time.Since(since).Seconds())
	}
}

// tool runs the command of a measured tool and returns its standard output.
func (l *lab) tool(cmd *exec.Cmd) ([]byte, error) {
	start := time.Now()
	out, err := output(cmd)
	l.ran(cmd, start)
	return out, err
}

// busy is CPU time in seconds: that of the machine that was used and all of it, and the used time
// without that of this program and of the other processes in its PID namespace.
type busy struct{ machine, total, others float64 }

func readBusy() (busy, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return busy{}, err
	}
	stat, err := proc.Stat()
	if err != nil {
		return busy{}, err
	}
	t := stat.CPUTotal
	b := busy{machine: t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal}
	b.total, b.others = b.machine+t.Idle+t.Iowait, b.machine
	own, err := used(unix.RUSAGE_SELF)
	children, childrenErr := used(unix.RUSAGE_CHILDREN)
	live, liveErr := proc.AllProcs()
	if err := errors.Join(err, childrenErr, liveErr); err != nil {
		return busy{}, err
	}
	b.others -= (own + children).Seconds()
	for _, process := range live {
		// One that has ended counts among the children waited for.
		if stat, err := process.Stat(); err == nil && process.PID != os.Getpid() {
			b.others -= stat.CPUTime()
		}
	}
	return b, nil
}

// waitIdle waits until this percentage of the machine is idle.
func waitIdle(ctx context.Context, percent float64) error {
	for deadline := time.Now().Add(10 * time.Minute); percent > 0; {
		before, err := readBusy()
		pause := rest(ctx, 500*time.Millisecond)
		after, afterErr := readBusy()
		if err := errors.Join(err, pause, afterErr); err != nil {
			return err
		}
		if 100*(after.machine-before.machine)/(after.total-before.total) <= 100-percent {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the machine was not idle for 10 minutes")
		}
	}
	return nil
}

// undisturbed measures while other work uses no more than the allowed share, up to three times, and
// returns the least disturbed measurement.
func (c contender) undisturbed(
	ctx context.Context, l *lab, idle float64, wait bool,
) (best record, err error) {
	for try := range 3 {
		if wait {
			if err := waitIdle(ctx, idle); err != nil {
				return best, err
			}
			l.spent = cpu{}
		}
		before, beforeErr := readBusy()
		limited, cancel := context.WithTimeout(ctx, limitForEach)
		got, err := c.measure(limited)
		cancel()
		after, afterErr := readBusy()
		if err := errors.Join(beforeErr, err, afterErr); err != nil {
			return best, err
		}
		disturbed := 0.0
		if total := after.total - before.total; total > 0 {
			disturbed = max(0, 100*(after.others-before.others)/total)
		}
		if try == 0 || disturbed < best.Others {
			best = record{Value: got, Others: disturbed, CPU: l.spent}
		}
		if idle == 0 || !wait || best.Others <= 100-idle {
			break
		}
	}
	l.spent = best.CPU
	return best, nil
}

// want is a promised ratio: of a contender's median to the best median of some others. A want
// without others is a bound on the median itself.
type want struct {
	ours        string
	best        []string
	least, most float64
	remark      string
}

func atLeast(ratio float64, ours string, best ...string) want {
	return want{ours: ours, best: best, least: ratio}
}

// verdict is the result of a want.
type verdict struct{ row, what, got, byCPU, wanted, outcome, remark string }

// The outcomes. A ratio that was not measured has not been reached.
const (
	passed      = "PASS"
	missed      = "MISS"
	notMeasured = "not measured"
)

// judge says what was wanted, what was measured and whether that suffices.
func (w want) judge(row string, records []record) verdict {
	v := verdict{row: row, what: w.ours, outcome: notMeasured, remark: w.remark}
	v.wanted = fmt.Sprintf("at least %.2f", w.least)
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
		mine, other := each(records, w.ours).total(), each(records, name).total()
		if mine > 0 && other > 0 {
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
		fmt.Fprintf(w, "  %-26s %14.2f %-13s (%.2f to %.2f, %d rounds)",
			c.name, median(list), r.unit, slices.Min(list), slices.Max(list), len(list))
		if took := each(records, c.name); took.total() > 0 && strings.HasSuffix(r.unit, "/s") {
			fmt.Fprintf(w, "  each took %.2f µs of user and %.2f µs of kernel time",
				took.User, took.Kernel)
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
	return cpu{User: median(users), Kernel: median(kernels)}
}

// summarise writes the table of the promises. Beside each ratio per second it shows the ratio per
// second of CPU time, which other work on the machine distorts less.
func summarise(w io.Writer, verdicts []verdict) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tratio\tgot\tby CPU time\twanted\t\t")
	for _, v := range verdicts {
		fmt.Fprintln(t, strings.Join([]string{
			v.row, v.what, v.got, v.byCPU, v.wanted, v.outcome, v.remark}, "\t"))
	}
	_ = t.Flush() // to where the rows above have gone
}
