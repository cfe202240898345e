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
	"time"
)

// row is a line of the table: some work, its contenders, and by how much ours must lead.
type row struct {
	name       string
	work       string
	unit       string
	contenders []contender
	wants      []want
	together   bool // the contenders are figures of one measurement, in order
	// setup makes what the row needs and returns a function that removes it.
	setup func(ctx context.Context) (func() error, error)
}

// contender does a row's work once and returns how much of it was done per second, or another
// figure that the row measures.
type contender struct {
	name    string
	program string // the required program; "": ours
	measure func(ctx context.Context) (float64, error)
}

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
func (r row) run(ctx context.Context, l *lab, o options, stderr io.Writer) (records []record, err error) {
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
			value, others, err := c.undisturbed(ctx, l, o.idle, !r.together || i == 0)
			if err != nil {
				return records, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			fmt.Fprintf(stderr, "%-10s round %d  %-24s %14.2f %s (others used %.0f %% of the machine)\n", r.name, round+1, c.name, value, r.unit, others)
			records = append(records, record{r.name, c.name, round + 1, value, others, l.spent})
			if err := rest(ctx, 300*time.Millisecond); err != nil {
				return records, err
			}
		}
	}
	return records, nil
}

// values returns a contender's measurements, sorted.
func values(records []record, name string) []float64 {
	var list []float64
	for _, rec := range records {
		if rec.Contender == name {
			list = append(list, rec.Value)
		}
	}
	return sorted(list)
}

func sorted(list []float64) []float64 {
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
