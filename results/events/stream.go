package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ctload/ctload/internal/printable"
)

// queueLength, in events, absorbs about a minute in which a reader reads nothing.
const queueLength = 4096

// Writer is a [Sink] that writes each event as a line of JSON, in a goroutine of its own. Where the
// reader is too slow it leaves events out, and says how many: it never makes a run wait.
type Writer struct {
	w     io.Writer
	ended chan struct{}

	mu     sync.Mutex
	queue  chan Event // nil once it is closed
	lost   int64      // since the last line
	missed int64      // in all
	err    error
}

// NewWriter returns a writer of events. The caller must close it.
func NewWriter(w io.Writer) *Writer { return newWriter(w, queueLength) }

func newWriter(w io.Writer, length int) *Writer {
	out := &Writer{w: w, queue: make(chan Event, length), ended: make(chan struct{})}
	go out.follow(out.queue)
	return out
}

// Take implements [Sink].
func (w *Writer) Take(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue == nil || w.err != nil {
		return
	}
	if w.lost > 0 {
		select {
		case w.queue <- Event{Kind: Lost, Time: e.Time, Count: w.lost}:
			w.lost = 0
		default:
		}
	}
	if w.lost == 0 {
		select {
		case w.queue <- e:
			return
		default:
		}
	}
	w.lost++
	w.missed++
}

// follow writes what is queued, up to the first failure.
func (w *Writer) follow(queue <-chan Event) {
	defer close(w.ended)
	for e := range queue {
		line, err := encode(e)
		if err == nil {
			_, err = w.w.Write(line)
		}
		if err != nil {
			w.mu.Lock()
			w.err = fmt.Errorf("writing events: %w", err)
			w.mu.Unlock()
			return
		}
	}
}

// encode returns an event as a line.
func encode(e Event) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return nil, err
	}
	return printable.JSON(b.Bytes()), nil
}

// Close writes what is queued, and waits for a slow reader at most for grace. The error tells that
// events are missing.
func (w *Writer) Close(grace time.Duration) error {
	w.mu.Lock()
	if w.queue != nil {
		close(w.queue)
		w.queue = nil
	}
	w.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	stuck := false
	select {
	case <-w.ended:
	case <-timer.C:
		stuck = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case stuck:
		return errors.New("writing events: the reader does not read: the last ones are lost")
	case w.missed > 0:
		return fmt.Errorf("writing events: the reader was too slow for %d of them", w.missed)
	}
	return nil
}

// Read passes the events of a stream of lines on to a sink, until the stream ends. A line that was
// torn by the end of its writer is no error.
func Read(r io.Reader, to Sink) error {
	for decoder := json.NewDecoder(r); ; {
		var e Event
		err := decoder.Decode(&e)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading events: %w", err)
		}
		to.Take(e)
	}
}
