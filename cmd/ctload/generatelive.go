package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/ctload/ctload/generators"
)

// live shows a running generator on stderr: on a terminal one line that changes, elsewhere a line
// now and then, so that a short load prints nothing at all.
type live struct {
	w        io.Writer
	terminal bool
	last     generators.Progress // the progress last shown
	shown    bool
}

// How often the line changes, and how often one is written where there is no terminal.
const (
	liveEvery     = 200 * time.Millisecond
	liveLineEvery = 10 * time.Second
)

func newLive(w io.Writer) *live {
	return &live{w: w, terminal: terminal(w)}
}

// terminal reports whether w is a terminal that understands control sequences.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// progress shows the progress that [generators.Run] reports.
func (l *live) progress(p generators.Progress) {
	since := p.Elapsed - l.last.Elapsed
	if l.terminal && since < liveEvery || !l.terminal && since < liveLineEvery {
		return
	}
	line := fmt.Sprintf("%5.1f s  %d begun, %d completed, %d failed, %d open, %.0f/s",
		p.Elapsed.Seconds(), p.Offered, p.Completed, p.Failed, p.Open, float64(p.Offered-l.last.Offered)/since.Seconds())
	if l.terminal {
		fmt.Fprintf(l.w, "\r%s\x1b[K", line)
	} else {
		fmt.Fprintln(l.w, line)
	}
	l.last, l.shown = p, true
}

// end removes the line.
func (l *live) end() {
	if l.terminal && l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
