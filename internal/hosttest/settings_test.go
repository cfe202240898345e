package hosttest

import (
	"slices"
	"sync"
	"testing"
)

// TestSettings_ChangedAlone runs tests that share the settings and one that changes them. The
// change is exclusive, and a test that shares waits behind one that waits to change.
func TestSettings_ChangedAlone(t *testing.T) {
	var mu sync.Mutex
	var events []string
	note := func(event string) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, event)
	}
	first := SharesSettings(t)
	second := SharesSettings(t) // beside the first
	waits := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		close(waits)
		release := ChangesSettings(t)
		note("changes")
		note("changed")
		release()
	})
	<-waits
	note("shared")
	first()
	second()
	for range 8 {
		all.Go(func() {
			release := SharesSettings(t)
			note("shares")
			release()
		})
	}
	all.Wait()
	at := slices.Index(events, "changes")
	if at < slices.Index(events, "shared") || events[at+1] != "changed" {
		t.Errorf("the settings changed beside those that share them: %v", events)
	}
	if len(events) != 11 {
		t.Errorf("%d events, want 11: %v", len(events), events)
	}
}
