// Package progress shows a run while it happens: bars on a terminal, plain lines elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
)

// View shows the events of a run on a terminal or in a log. It is an [events.Sink].
type View struct {
	shown display
	// beside is set where trials of several labs run at once: their stages and figures would mix.
	beside atomic.Bool
}

// display shows a run with one trial at a time.
type display interface {
	// Trial starts trial number index (from 1) of the run's total.
	Trial(index, total int, name string)
	// Stage names the stage of the trial: boot, configure, load ... and its limit; 0: unknown.
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
func New(w *os.File) *View { return &View{shown: newDisplay(w)} }

func newDisplay(w *os.File) display {
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

// Take implements [events.Sink].
func (v *View) Take(e events.Event) {
	name := fmt.Sprintf("%s-%d", e.Scenario, e.Trial)
	if v.beside.Load() {
		switch e.Kind {
		case events.TrialBegin:
			v.shown.Note(fmt.Sprintf("trial %d of %d begins: %s", e.Index, e.Total, name))
			return
		case events.TrialEnd:
			v.shown.Note(fmt.Sprintf("%s: %s: %s", name, e.Result.Verdict, e.Result.Sentence))
			return
		case events.StageBegin, events.LoadMoved, events.SampleTaken:
			return
		}
	}
	switch e.Kind {
	case events.RunBegin:
		v.beside.Store(e.Labs > 1)
	case events.TrialBegin:
		v.shown.Trial(e.Index, e.Total, name)
	case events.StageBegin:
		v.shown.Stage(e.Stage.Name, time.Duration(e.Stage.AtMost*float64(time.Second)))
	case events.LoadMoved:
		v.shown.Load(e.Load.Done, e.Load.Failed, e.Load.Wanted)
	case events.SampleTaken:
		v.shown.Table(*e.Sample)
	case events.ActionMoved:
		if e.Action.Event == results.ActionMade {
			v.shown.Note(fmt.Sprintf("%s: %s", e.Action.Name, e.Action.Asked))
		}
	case events.TrialEnd:
		v.shown.Ended(*e.Result)
	case events.Noted:
		v.shown.Note(e.Note)
	}
}

// Close restores the terminal.
func (v *View) Close() error { return v.shown.Close() }

// plainLines is a [display] with a line for each stage and, under load, one every few seconds.
type plainLines struct {
	mu    sync.Mutex
	w     io.Writer
	last  time.Time // of the last line about the load
	state state
}

// linesEvery is the time between two lines of a running load where there is no terminal.
const linesEvery = 5 * time.Second

// newLines returns a view that writes plain lines to w.
func newLines(w io.Writer) *plainLines { return &plainLines{w: w} }

func (l *plainLines) Trial(index, total int, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = newState(index, total, name)
	fmt.Fprintf(l.w, "trial %d of %d: %s\n", index, total, name)
}

func (l *plainLines) Stage(name string, atMost time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
	l.state.enter(name, atMost, l.last)
	text := name
	if atMost > 0 {
		text += fmt.Sprintf(", at most %.0f s", atMost.Seconds())
	}
	l.line(text)
}

func (l *plainLines) Load(done, failed, want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.done, l.state.failed, l.state.want = done, failed, want
	l.mention()
}

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
	s := l.state.sample
	text := fmt.Sprintf("%s, failed %d, table %d of %d, drop %d, early_drop %d", l.state.count(),
		l.state.failed, s.Count, s.Max, s.Counters.Drop, s.Counters.EarlyDrop)
	if left := l.state.left(); left != "" {
		text += fmt.Sprintf(", %s left", left)
	}
	l.line(text)
}

// line writes a line of the trial, with how long the trial has taken so far.
func (l *plainLines) line(text string) {
	fmt.Fprintf(l.w, "  %6.1f s  %s\n", time.Since(l.state.began).Seconds(), text)
}

func (l *plainLines) Ended(trial results.Trial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(outcome(trial))
}

func (l *plainLines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, printable.Text(text))
}

func (l *plainLines) Close() error { return nil }

// state holds the facts of the current trial that a view shows.
type state struct {
	name         string
	index, total int
	began        time.Time // the trial
	stage        string
	entered      time.Time       // the stage
	atMost       time.Duration   // the stage's length; 0: not known
	elapsed, eta decor.Decorator // of the stage
	done, failed int64
	want         int64 // 0: not known
	sample       results.Sample
}

func newState(index, total int, name string) state {
	s := state{index: index, total: total, name: name, began: time.Now()}
	s.enter("", 0, s.began)
	return s
}

func (s *state) enter(stage string, atMost time.Duration, at time.Time) {
	s.stage, s.entered, s.atMost = stage, at, atMost
	s.elapsed = decor.NewElapsed(decor.ET_STYLE_GO, at)
	s.eta = decor.NewAverageETA(decor.ET_STYLE_GO, at, nil)
}

// share returns the completed share of the stage: of a load by count, where one is known, else by
// time.
func (s state) share() float64 {
	if s.stage == "load" && s.want > 0 {
		return min(1, float64(s.done+s.failed)/float64(s.want))
	}
	return s.passed()
}

// passed returns the share of the stage's time that has passed; 0 where its length is not known.
func (s state) passed() float64 {
	if s.atMost == 0 {
		return 0
	}
	return min(1, time.Since(s.entered).Seconds()/s.atMost.Seconds())
}

// left words how long the stage still takes; empty as long as that is not known.
func (s state) left() string {
	share := s.passed()
	if s.atMost == 0 {
		if share = s.share(); share <= 0.1 {
			return ""
		}
	}
	const parts = 1_000_000 // as finely as a first moment of a long stage needs
	text, _ := s.eta.Decor(decor.Statistics{Total: parts, Current: int64(parts * share)})
	return text
}

// count words what the generators have done.
func (s state) count() string {
	if s.want > 0 {
		return fmt.Sprintf("%d of %d", s.done, s.want)
	}
	return fmt.Sprintf("%d done", s.done)
}

func (s state) loadHead() string {
	return fmt.Sprintf("%s %d/%d %s", s.stage, s.index, s.total, s.name)
}

// loadPieces returns the texts of the load's bar, the most important first.
func (s state) loadPieces() []string {
	var pieces []string
	if s.stage == "load" && s.done+s.failed > 0 {
		pieces = append(pieces, s.count())
	}
	elapsed, _ := s.elapsed.Decor(decor.Statistics{})
	pieces = append(pieces, elapsed)
	if left := s.left(); left != "" && s.stage == "load" {
		pieces = append(pieces, left+" left")
	} else if left != "" {
		pieces = append(pieces, "at most "+left+" left")
	}
	if s.failed > 0 {
		pieces = append(pieces, fmt.Sprintf("%d failed", s.failed))
	}
	return pieces
}

func (s state) tablePieces() []string {
	if s.sample.Max == 0 {
		return nil
	}
	pieces := []string{fmt.Sprintf("%d of %d", s.sample.Count, s.sample.Max)}
	if n := s.sample.Counters.Drop; n > 0 {
		pieces = append(pieces, fmt.Sprintf("drop %d", n))
	}
	if n := s.sample.Counters.EarlyDrop; n > 0 {
		pieces = append(pieces, fmt.Sprintf("early_drop %d", n))
	}
	return pieces
}

// row returns the outcome of a trial in a line.
func (s state) row(trial results.Trial) string {
	return fmt.Sprintf("%d/%d %s: %s, %.0f s",
		s.index, s.total, s.name, outcome(trial), time.Since(s.began).Seconds())
}

func outcome(trial results.Trial) string {
	words := []string{string(trial.Verdict) + ":"}
	for _, name := range results.EntryNames(trial.Entries) {
		e := trial.Entries[name]
		if len(trial.Entries) > 1 {
			words = append(words, name)
		}
		words = append(words, fmt.Sprintf("%d of %d %s,", e.Done(), e.Offered, e.DoneWord()))
	}
	c := trial.Conntrack
	return strings.Join(append(words, fmt.Sprintf("peak %d of %d", c.Peak, c.Max)), " ")
}
