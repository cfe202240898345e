package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ctload/ctload/results"
)

// bars shows the trial under way as two bars, the load and the table, and leaves one line for each
// trial that has ended.
//
// A bar draws, and so calls the decorators, in a goroutine of its own that also serves the bar's
// methods. The decorators therefore take the lock of the state only, under which no bar is called.
type bars struct {
	w io.Writer
	p *mpb.Progress

	calls sync.Mutex // orders the calls of the bars
	load  *mpb.Bar
	table *mpb.Bar

	mu    sync.Mutex // guards state
	state state
}

// state is what the bars show.
type state struct {
	name         string
	index, total int
	stage        string
	began        time.Time
	done, failed int64
	want         int64
	sample       results.Sample
}

// unknownWant is the total of a bar whose end is not known: it stays empty.
const unknownWant = 1 << 62

func newBars(w io.Writer) *bars {
	return &bars{w: w, p: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond), mpb.WithAutoRefresh())}
}

// now is the state at this moment.
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
	b.change(func(s *state) { *s = state{name: name, index: index, total: total, began: time.Now()} })
	b.load = b.bar(b.loadHead, b.loadTail)
	b.table = b.bar(b.tableHead, b.tableTail)
}

func (b *bars) bar(head, tail func() string) *mpb.Bar {
	style := mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("").Padding("░")
	return b.p.New(unknownWant, style,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return fmt.Sprintf("%-36s ", head()) })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return tail() })),
		mpb.BarRemoveOnComplete())
}

func (b *bars) loadHead() string {
	s := b.now()
	return fmt.Sprintf("%d/%d %s: %s", s.index, s.total, s.name, s.stage)
}

func (b *bars) loadTail() string {
	s := b.now()
	if s.done+s.failed == 0 {
		return fmt.Sprintf(" %.0f s", time.Since(s.began).Seconds())
	}
	return fmt.Sprintf(" %s done, %d failed", share(s.done, s.want), s.failed)
}

func (b *bars) tableHead() string { return "    conntrack table" }

func (b *bars) tableTail() string {
	s := b.now().sample
	if s.Max == 0 {
		return ""
	}
	text := fmt.Sprintf(" %d of %d", s.Count, s.Max)
	if s.Counters.Drop > 0 {
		text += fmt.Sprintf(", drop %d", s.Counters.Drop)
	}
	if s.Counters.EarlyDrop > 0 {
		text += fmt.Sprintf(", early_drop %d", s.Counters.EarlyDrop)
	}
	return text
}

func (b *bars) Stage(name string) { b.change(func(s *state) { s.stage = name }) }

func (b *bars) Load(done, failed, want int64) {
	b.change(func(s *state) { s.done, s.failed, s.want = done, failed, want })
	b.calls.Lock()
	defer b.calls.Unlock()
	fill(b.load, done+failed, want)
}

func (b *bars) Table(sample results.Sample) {
	b.change(func(s *state) { s.sample = sample })
	b.calls.Lock()
	defer b.calls.Unlock()
	fill(b.table, sample.Count, sample.Max)
}

// fill moves a bar. Its total is one more than wanted: a bar is ended by its trial, not by its last
// request.
func fill(bar *mpb.Bar, current, want int64) {
	if bar == nil || want <= 0 {
		return
	}
	bar.SetTotal(want+1, false)
	bar.SetCurrent(min(current, want))
}

func (b *bars) Ended(trial results.Trial) {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.drop()
	s := b.now()
	b.line(fmt.Sprintf("%d/%d %s: %s, %.0f s", s.index, s.total, s.name, outcome(trial), time.Since(s.began).Seconds()))
}

func (b *bars) Note(text string) {
	b.calls.Lock()
	defer b.calls.Unlock()
	b.line(text)
}

// line prints above the bars.
func (b *bars) line(text string) {
	if _, err := fmt.Fprintln(b.p, text); err != nil {
		fmt.Fprintln(b.w, text) // the bars have been closed
	}
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
	return nil
}
