package hosttest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Poll asks every 20 ms until a condition holds, and reports whether it did within limit.
func Poll(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		late := time.Now().After(deadline)
		if holds() {
			return true
		}
		if late {
			return false
		}
	}
}

// Eventually waits until a condition holds, longer than a busy host stands still. It fails the test
// when the condition does not come to hold.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const limit = 30 * time.Second
	if !Poll(limit, holds) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

// Buffer holds what a running command writes. It is safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// WaitFor waits until text appears.
func (b *Buffer) WaitFor(t testing.TB, text string, limit time.Duration) {
	t.Helper()
	if !Poll(limit, func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("%q did not appear within %v in:\n%s", text, limit, b)
	}
}
