// Package progress shows a run while it happens: bars on a terminal, plain lines elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/ctload/ctload/results"
)

// View is told what a run does. Its methods may be called from several goroutines.
type View interface {
	// Trial starts trial number index (from 1) of the run's total.
	Trial(index, total int, name string)
	// Stage names what the trial does now: boot, configure, load ...
	Stage(name string)
	// Load tells what the generators have done of want (0: unknown) so far.
	Load(done, failed, want int64)
	// Table is the DUT's table at this instant.
	Table(sample results.Sample)
	// Ended closes the trial with what came of it.
	Ended(trial results.Trial)
	// Note is something worth a line of its own.
	Note(text string)
	// Close leaves the terminal as it should be.
	Close() error
}

// New is a view on w: bars when w is a terminal, lines otherwise.
func New(w *os.File) View {
	if term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb" {
		return newBars(w)
	}
	return NewLines(w)
}

// Lines writes a line for each stage and, while the load runs, one every few seconds.
type Lines struct {
	mu      sync.Mutex
	w       io.Writer
	name    string
	began   time.Time
	last    time.Time // of the last line about the load
	table   results.Sample
	done    int64
	failed  int64
	want    int64
	loading bool
}

// linesEvery is how often a running load is mentioned where there is no terminal.
const linesEvery = 5 * time.Second

// NewLines is a view that writes plain lines to w.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// Trial implements [View].
func (l *Lines) Trial(index, total int, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name, l.began, l.table, l.done, l.failed, l.want, l.loading = name, time.Now(), results.Sample{}, 0, 0, 0, false
	fmt.Fprintf(l.w, "trial %d of %d: %s\n", index, total, name)
}

// Stage implements [View].
func (l *Lines) Stage(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loading, l.last = name == "load", time.Now()
	fmt.Fprintf(l.w, "  %6.1f s  %s\n", time.Since(l.began).Seconds(), name)
}

// Load implements [View].
func (l *Lines) Load(done, failed, want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done, l.failed, l.want = done, failed, want
	l.mention()
}

// Table implements [View].
func (l *Lines) Table(sample results.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table = sample
	l.mention()
}

func (l *Lines) mention() {
	if !l.loading || time.Since(l.last) < linesEvery {
		return
	}
	l.last = time.Now()
	fmt.Fprintf(l.w, "  %6.1f s  done %s, failed %d, table %d of %d, drop %d, early_drop %d\n",
		time.Since(l.began).Seconds(), share(l.done, l.want), l.failed,
		l.table.Count, l.table.Max, l.table.Counters.Drop, l.table.Counters.EarlyDrop)
}

func share(done, want int64) string {
	if want > 0 {
		return fmt.Sprintf("%d of %d", done, want)
	}
	return fmt.Sprint(done)
}

// Ended implements [View].
func (l *Lines) Ended(trial results.Trial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loading = false
	fmt.Fprintf(l.w, "  %6.1f s  %s\n", time.Since(l.began).Seconds(), outcome(trial))
}

func outcome(trial results.Trial) string {
	return fmt.Sprintf("%s: %d of %d completed, peak %d of %d", trial.Verdict,
		trial.Load.Completed, trial.Load.Offered, trial.Conntrack.Peak, trial.Conntrack.Max)
}

// Note implements [View].
func (l *Lines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, text)
}

// Close implements [View].
func (l *Lines) Close() error { return nil }
