package progress

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/results"
)

// tell plays a short run to a view, from several goroutines as a real one does.
func tell(v display) {
	v.Trial(1, 2, "baseline-1")
	v.Stage("boot", 0)
	v.Note("falling back to TCG")
	v.Stage("load", 0)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for n := range int64(100) {
				v.Load(n, 1, 100)
				v.Table(results.Sample{Count: n, Max: 50, Counters: results.Counters{Drop: n}})
			}
		})
	}
	group.Wait()
	v.Ended(results.Trial{
		Verdict: results.TableFull, Entries: made(100, 99),
		Conntrack: results.Conntrack{Peak: 50, Max: 50},
	})
	v.Trial(2, 2, "cure-1")
	v.Stage("boot", 0)
}

// made returns a workload whose entry completed a number of its attempts.
func made(offered, completed int64) map[string]results.Entry {
	return map[string]results.Entry{"http": {Attempts: results.Attempts{
		Offered: offered, Completed: &completed,
	}}}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	v := newLines(&out)
	tell(v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"trial 1 of 2: baseline-1\n", "  boot\n", "  load\n", "falling back to TCG\n",
		"table-full: 99 of 100 completed, peak 50 of 50\n", "trial 2 of 2: cure-1\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

// TestBarsEnd checks for deadlocks: bars draw in goroutines of their own and ask the view for its
// state, while the view moves them. A trial that never ended must not block Close either.
func TestBarsEnd(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/terminal")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		v := newBars(file, func() int { return 80 })
		tell(v)
		done <- v.Close()
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the bars did not end within 20 s")
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "falling back to TCG") ||
		!strings.Contains(string(text), "baseline-1: table-full") {
		t.Errorf("lines above the bars are lost:\n%q", text)
	}
}

// escape is a control sequence of a terminal.
var escape = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// TestBars_OnATerminal plays a trial to a terminal of 80 columns: no line is longer, and words stay
// whole.
func TestBars_OnATerminal(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(master) // the error says that the terminal was closed
		shown <- string(text)
	}()
	v := newDisplay(terminal)
	v.Trial(4, 4, "shortened-timeouts@kernel=debian-trixie-1")
	v.Stage("load", time.Minute)
	v.Load(11999, 12345, 120000)
	v.Table(results.Sample{
		Count: 262144, Max: 262144, Counters: results.Counters{Drop: 1234567, EarlyDrop: 7654321},
	})
	time.Sleep(300 * time.Millisecond) // more than one refresh
	v.Note("a guest did not boot under KVM: " + strings.Repeat("its agent did not answer ", 8))
	v.Stage("recovery", 10*time.Second)
	time.Sleep(300 * time.Millisecond)
	v.Ended(results.Trial{
		Verdict: results.TableFull, Entries: made(5000, 4201),
		Conntrack: results.Conntrack{Peak: 4096, Max: 4096},
	})
	v.Note("a note after the last trial")
	if err := errors.Join(v.Close(), terminal.Close()); err != nil {
		t.Fatal(err)
	}
	text := <-shown
	for line := range strings.FieldsFuncSeq(escape.ReplaceAllString(text, ""),
		func(r rune) bool { return r == '\n' || r == '\r' }) {
		if width := runewidth.StringWidth(line); width > 80 {
			t.Errorf("%d columns: %q", width, line)
		}
	}
	for _, want := range []string{
		"load 4/4 shortened-timeouts…  █", "  11999 of 120000, ", "s left\r",
		"  262144 of 262144, drop 1234567\r",
		"recovery 4/4 shortened-time…  ", ", at most ", "s left, 12345 failed\r",
		"did not\r\n    answer",
		"4/4 shortened-timeouts@kernel=debian-trixie-1: table-full: 4201 of 5000\r\n    " +
			"completed, peak",
		"a note after the last trial\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%q", want, text)
		}
	}
}

func TestState(t *testing.T) {
	s := newState(1, 2, "a-1")
	ago := func(stage string, atMost time.Duration) {
		s.enter(stage, atMost, time.Now().Add(-10*time.Second))
	}
	ago("load", 0)
	s.done, s.failed, s.want = 20, 5, 100
	// Mpb estimates 30 s a moment after the 10 s.
	about := regexp.MustCompile(`^(29|30|31)s$`)
	if s.share() != 0.25 || !about.MatchString(s.left()) || s.count() != "20 of 100" {
		t.Errorf("by count: %v, %q left, %s", s.share(), s.left(), s.count())
	}
	s.want = 0
	ago("load", 40*time.Second)
	if math.Round(100*s.share()) != 25 || !about.MatchString(s.left()) || s.count() != "20 done" {
		t.Errorf("by time: %v, %q left, %s", s.share(), s.left(), s.count())
	}
	s.done, s.want = 1000, 20
	if s.share() != 1 {
		t.Errorf("more than wanted: %v", s.share())
	}
	if ago("recovery", 40*time.Second); !about.MatchString(s.left()) {
		t.Errorf("a recovery: %q left", s.left())
	}
	if ago("boot", 0); s.left() != "" {
		t.Errorf("a boot takes as long as it takes, not %q more", s.left())
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"short":               "short",
		"one two three":       "one two\n    three",
		"unbreakably-long":    "unbreakably-long",
		"a\nbb cc dd ee ff":   "a\nbb cc dd\n    ee ff",
		"a unbreakably-longs": "a\n    unbreakably-longs",
	} {
		if got := wrap(text, 9); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
