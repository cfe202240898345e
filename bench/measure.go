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
	"time"
)

// row is a line of the table: some work, who does it, and by how much ours is to be ahead.
type row struct {
	name       string
	work       string
	unit       string
	contenders []contender
	wants      []want
	together   bool // the contenders are figures of one measurement, in order
	// setup makes what the row needs; what it returns takes that away.
	setup func(ctx context.Context) (func() error, error)
}

// contender does a row's work once and returns how much of it was done a second, or whatever
// else the row measures.
type contender struct {
	name    string
	program string // that must be installed; "": ours
	measure func(ctx context.Context) (float64, error)
}

// want is a ratio that was promised: of a contender's median by the best median of some others. A
// want without others is a bound on the median itself.
type want struct {
	ours   string
	best   []string
	least  float64
	most   float64
	remark string
}

// record is one measurement.
type record struct {
	Row       string  `json:"row"`
	Contender string  `json:"contender"`
	Round     int     `json:"round"`
	Value     float64 `json:"value"`
	Others    float64 `json:"others"` // percent of the machine that other work used meanwhile
}

// limitForEach is how long one measurement may take.
const limitForEach = 2 * time.Minute

func measure(ctx context.Context, o options, stdout, stderr io.Writer) error {
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
	for _, r := range rows {
		if len(o.rows) > 0 && !slices.Contains(o.rows, r.name) {
			continue
		}
		found, err := r.run(ctx, o, stderr)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		records = append(records, found...)
		r.print(stdout, found)
	}
	if o.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, data, 0o644)
}

// run measures every contender once a round, each round beginning with another one.
func (r row) run(ctx context.Context, o options, stderr io.Writer) (records []record, err error) {
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
			value, others, err := c.undisturbed(ctx, o.idle, !r.together || i == 0)
			if err != nil {
				return records, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			fmt.Fprintf(stderr, "%-10s round %d  %-24s %14.2f %s (others used %.0f %% of the machine)\n", r.name, round+1, c.name, value, r.unit, others)
			records = append(records, record{r.name, c.name, round + 1, value, others})
			if err := rest(ctx, 300*time.Millisecond); err != nil {
				return records, err
			}
		}
	}
	return records, nil
}

// values are a contender's measurements, sorted.
func values(records []record, name string) []float64 {
	var list []float64
	for _, rec := range records {
		if rec.Contender == name {
			list = append(list, rec.Value)
		}
	}
	slices.Sort(list)
	return list
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r row) print(w io.Writer, records []record) {
	fmt.Fprintf(w, "\n%s: %s\n", r.name, r.work)
	for _, c := range r.contenders {
		list := values(records, c.name)
		if len(list) == 0 {
			fmt.Fprintf(w, "  %-26s not measured\n", c.name)
			continue
		}
		fmt.Fprintf(w, "  %-26s %14.2f %-12s (%.2f to %.2f, %d rounds)\n", c.name, median(list), r.unit, list[0], list[len(list)-1], len(list))
	}
	for _, want := range r.wants {
		fmt.Fprintf(w, "  %s\n", want.judge(records))
	}
}

// judge says what was wanted, what came out and whether that will do.
func (want want) judge(records []record) string {
	got := median(values(records, want.ours))
	what := want.ours
	if len(want.best) > 0 {
		best, name := 0.0, ""
		for _, other := range want.best {
			if m := median(values(records, other)); m > best {
				best, name = m, other
			}
		}
		if best == 0 {
			return fmt.Sprintf("%s: nobody to compare with", what)
		}
		got /= best
		what += " / " + name
	}
	outcome := "reached"
	if want.least > 0 && got < want.least || want.most > 0 && got > want.most || got == 0 {
		outcome = "NOT reached"
	}
	wanted := fmt.Sprintf("at least %.2f", want.least)
	if want.most > 0 {
		wanted = fmt.Sprintf("at most %.2f", want.most)
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %.2f, %s wanted: %s %s", what, got, wanted, outcome, want.remark))
}
