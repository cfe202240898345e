package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
)

// bars is a [display] of the current trial as two bars, the load and the table, with a line for
// each trial that has ended.
//
// A bar calls its decorators in the goroutine that also serves its methods. They therefore take
// only the lock of the state, and no code calls a bar while it holds that lock.
type bars struct {
	w     io.Writer
	width func() int // of the terminal, in columns
	p     *mpb.Progress

	calls   sync.Mutex // orders the calls of the bars
	load    *mpb.Bar   // nil between trials
	table   *mpb.Bar
	begun   bool     // a trial has had bars
	pending []string // texts from between trials, which wait for the next bars or the end

	mu    sync.Mutex // guards state
	state state
}

// whole is the total of a bar: its trial ends a bar, not its last request.
const whole = 1000

// Columns of a line of 80: the head, the least width of the bar, the tail, and one that stays free.
const (
	headWidth = 28
	barWidth  = 12
)

// newBars returns a view on a terminal with width() columns.
func newBars(w io.Writer, width func() int) *bars {
	return &bars{w: w, width: width, p: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40),
		mpb.WithRefreshRate(120*time.Millisecond), mpb.WithAutoRefresh())}
}

// now returns the state at this moment.
func (b *bars) now() state {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *bars) change(f func(*state)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.state)
}

func (b *bars) Trial(index, total int, name string) {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.drop()
	b.change(func(s *state) { *s = newState(index, total, name) })
	b.load = b.bar(state.loadHead, state.loadPieces)
	b.table = b.bar(func(state) string { return "    conntrack table" }, state.tablePieces)
	b.begun = true
	for _, text := range b.pending {
		b.line(text)
	}
	b.pending = nil
}

func (b *bars) bar(head func(state) string, pieces func(state) []string) *mpb.Bar {
	style := mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("").Padding("░")
	return b.p.New(whole+1, style,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			text := runewidth.Truncate(head(b.now()), headWidth, "…")
			return runewidth.FillRight(text, headWidth) + " "
		})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return " " + fit(pieces(b.now()), b.width()-headWidth-barWidth-3)
		})),
		mpb.BarRemoveOnComplete())
}

// fit joins as many pieces as fit into width, the first ones first.
func fit(pieces []string, width int) string {
	text := ""
	for i, piece := range pieces {
		if i > 0 {
			piece = ", " + piece
		}
		if runewidth.StringWidth(text+piece) > width {
			break
		}
		text += piece
	}
	return text
}

func (b *bars) Stage(name string, atMost time.Duration) {
	b.change(func(s *state) { s.enter(name, atMost, time.Now()) })
	b.calls.Lock()
	defer b.calls.Unlock()
	fill(b.load, 0)
}

func (b *bars) Load(done, failed, want int64) {
	b.change(func(s *state) { s.done, s.failed, s.want = done, failed, want })
	b.calls.Lock()
	defer b.calls.Unlock()
	fill(b.load, b.now().share())
}

func (b *bars) Table(sample results.Sample) {
	b.change(func(s *state) { s.sample = sample })
	b.calls.Lock()
	defer b.calls.Unlock()
	fill(b.load, b.now().share())
	if sample.Max > 0 {
		fill(b.table, float64(sample.Count)/float64(sample.Max))
	}
}

// fill moves a bar.
func fill(bar *mpb.Bar, share float64) {
	if bar != nil {
		bar.SetCurrent(int64(whole * min(1, share)))
	}
}

func (b *bars) Ended(trial results.Trial) {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.line(b.now().row(trial)) // before the bars go: they draw the line
	b.drop()
}

func (b *bars) Note(text string) {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.line(printable.Text(text))
}

// line prints above the bars, in lines that fit. Without bars mpb draws a text at its next refresh,
// and never when it ends before: between trials a text waits.
func (b *bars) line(text string) {
	text = wrap(text, b.width()-1)
	switch {
	case !b.begun:
		fmt.Fprintln(b.w, text)
	case b.load == nil:
		b.pending = append(b.pending, text)
	default:
		if _, err := fmt.Fprintln(b.p, text); err != nil {
			fmt.Fprintln(b.w, text)
		}
	}
}

// wrap breaks the lines of a text at spaces, and indents what follows; a longer word stays whole.
func wrap(text string, width int) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if runewidth.StringWidth(line) <= width {
			lines = append(lines, line)
			continue
		}
		current := ""
		for _, word := range strings.Fields(line) {
			switch {
			case current == "":
				current = word
			case runewidth.StringWidth(current+" "+word) > width:
				lines = append(lines, current)
				current = "    " + word
			default:
				current += " " + word
			}
		}
		lines = append(lines, current)
	}
	return strings.Join(lines, "\n")
}

func (b *bars) drop() {
	for _, bar := range []*mpb.Bar{b.load, b.table} {
		if bar != nil {
			bar.Abort(true)
			bar.Wait()
		}
	}
	b.load, b.table = nil, nil
}

func (b *bars) Close() error {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.drop()
	b.p.Wait()
	for _, text := range b.pending {
		fmt.Fprintln(b.w, text)
	}
	return nil
}
