package events

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// gathered keeps the events that it takes.
type gathered struct {
	mu   sync.Mutex
	list []Event
}

func (g *gathered) Take(e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, e)
}

// TestStream writes events and reads them again: they are the same, one a line, and a control
// character of a stranger's text arrives escaped.
func TestStream(t *testing.T) {
	at := time.Date(2026, 11, 20, 13, 6, 12, 345_000_000, time.UTC)
	sent := []Event{
		{Kind: RunBegin, Time: at, Run: &results.Run{ID: "r", Scenarios: []results.Scenario{}},
			Order: []Place{{"a", 1}}, Labs: 1},
		{Kind: StageBegin, Time: at, Scenario: "a", Trial: 1, Stage: &Stage{"load", 2.5}},
		{Kind: SampleTaken, Time: at, Scenario: "a", Trial: 1,
			Sample: &results.Sample{Seconds: -0.25, Count: 7, Max: 10}},
		{Kind: Noted, Time: at, Note: "a\x1b[31m <b>"},
		{Kind: RunEnd, Time: at, End: &End{Status: 1, Failures: []string{"x"}}},
	}
	var text bytes.Buffer
	w := NewWriter(&text)
	for _, e := range sent {
		w.Take(e)
	}
	if err := w.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
	w.Take(sent[0]) // of a part of the program that ends late
	if n := strings.Count(text.String(), "\n"); n != len(sent) ||
		strings.ContainsRune(text.String(), '\x1b') || !strings.Contains(text.String(), "<b>") {
		t.Errorf("%d lines:\n%q", n, text.String())
	}
	// The writer was killed in the middle of a line.
	var got gathered
	torn := io.MultiReader(&text, strings.NewReader(`{"event":"sam`))
	if err := Read(torn, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got.list); diff != "" {
		t.Error(diff)
	}
	if err := Read(strings.NewReader("no JSON\n"), &got); err == nil {
		t.Error("a line that is no JSON is read")
	}
}

// TestWriter_WithoutReader has nothing read the events: no call waits, what is kept is bounded, and
// the end comes in time and tells of the loss.
func TestWriter_WithoutReader(t *testing.T) {
	from, into, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	const length, many = 16, 100_000
	w := newWriter(into, length)
	for n := range int64(many) {
		w.Take(Event{Kind: LoadMoved, Load: &Load{Done: n}})
	}
	if len(w.queue) > length {
		t.Errorf("%d events are kept", len(w.queue))
	}
	if err := w.Close(10 * time.Millisecond); err == nil {
		t.Error("the loss of events is no error")
	}
	// A reader that comes late gets the first events, and lines that count the others.
	var got gathered
	read := make(chan error)
	go func() { read <- Read(from, &got) }()
	<-w.ended
	if err := errors.Join(into.Close(), <-read); err != nil {
		t.Fatal(err)
	}
	told, last := int64(0), int64(-1)
	for _, e := range got.list {
		switch e.Kind {
		case Lost:
			told, last = told+e.Count, last+e.Count
		default:
			told++
			if last++; e.Load.Done != last {
				t.Fatalf("event %d came as %d", e.Load.Done, last)
			}
		}
	}
	if told+w.lost != many {
		t.Errorf("%d events and %d at the end are accounted for, of %d", told, w.lost, many)
	}
}

// TestWriter_DeadReader has the reader end: the writer goes on without it.
func TestWriter_DeadReader(t *testing.T) {
	from, into, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(into)
	for range 10_000 {
		w.Take(Event{Kind: Noted, Note: "x"})
	}
	if err := w.Close(time.Minute); err == nil {
		t.Error("a reader that is gone is no error")
	}
}

// FuzzRead: any stream is read without a panic, and what is read can be written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"event":"sample","sample":{"t":1,"count":2}}` + "\n"))
	f.Add([]byte(`{"event":"trial-end","result":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got gathered
		_ = Read(bytes.NewReader(text), &got)
		for _, e := range got.list {
			if _, err := encode(e); err != nil {
				t.Error(err)
			}
		}
	})
}
