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

// View receives what a run does. Several goroutines may call its methods.
type View interface {
	// Trial starts trial number index (from 1) of the run's total.
	Trial(index, total int, name string)
	// Stage names the current stage of the trial: boot, configure, load ... and its time limit; 0:
	// unknown.
	Stage(name string, atMost time.Duration)
	// Load reports what the generators have done so far of the wanted number (0: unknown).
	Load(done, failed, want int64)
	// Table reports the DUT's table at this instant.
	Table(sample results.Sample)
	// Ended closes the trial with its result.
	Ended(trial results.Trial)
	// Note shows a remark on a line of its own.
	Note(text string)
	// Close restores the terminal.
	Close() error
}

// New returns a view on w: bars when w is a terminal, lines otherwise.
func New(w *os.File) View {
	if term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb" {
		return newBars(w, func() int {
			width, _, err := term.GetSize(int(w.Fd()))
			if err != nil || width <= 0 {
				return 80
			}
			return width
		})
	}
	return newLines(w)
}

// plainLines writes a line for each stage and, while the load runs, one every few seconds.
type plainLines struct {
	mu    sync.Mutex
	w     io.Writer
	last  time.Time // of the last line about the load
	state state
}

// linesEvery is how often a running load gets a line where there is no terminal.
const linesEvery = 5 * time.Second

// newLines returns a view that writes plain lines to w.
func newLines(w io.Writer) *plainLines { return &plainLines{w: w} }

// Trial implements [View].
func (l *plainLines) Trial(index, total int, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = newState(index, total, name)
	fmt.Fprintf(l.w, "trial %d of %d: %s\n", index, total, name)
}

// Stage implements [View].
func (l *plainLines) Stage(name string, atMost time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.enter(name, atMost)
	l.last = time.Now()
	text := name
	if atMost > 0 {
		text += fmt.Sprintf(", at most %.0f s", atMost.Seconds())
	}
	l.line(text)
}

// Load implements [View].
func (l *plainLines) Load(done, failed, want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.done, l.state.failed, l.state.want = done, failed, want
	l.mention()
}

// Table implements [View].
func (l *plainLines) Table(sample results.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.sample = sample
	l.mention()
}

func (l *plainLines) mention() {
	if l.state.stage != "load" || time.Since(l.last) < linesEvery {
		return
	}
	l.last = time.Now()
	table := l.state.sample
	text := fmt.Sprintf("%s, failed %d, table %d of %d, drop %d, early_drop %d",
		l.state.count(), l.state.failed, table.Count, table.Max, table.Counters.Drop, table.Counters.EarlyDrop)
	if seconds, known := l.state.left(); known {
		text += fmt.Sprintf(", %.0f s left", seconds)
	}
	l.line(text)
}

// line writes a line of the trial, with how long the trial has taken so far.
func (l *plainLines) line(text string) {
	fmt.Fprintf(l.w, "  %6.1f s  %s\n", time.Since(l.state.began).Seconds(), text)
}

// Ended implements [View].
func (l *plainLines) Ended(trial results.Trial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(outcome(trial))
}

// Note implements [View].
func (l *plainLines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, text)
}

// Close implements [View].
func (l *plainLines) Close() error { return nil }
