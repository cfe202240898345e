package generators

import (
	"testing"
	"time"
	"unsafe"
)

func TestAwaiting(t *testing.T) {
	const most = 3*awaitingSize + 5
	a := newAwaiting(most, 2)
	if _, ok := a.settle(7, 0); ok || a.wasSent(7) || a.wasSent(1<<40) {
		t.Error("what was not sent is known")
	}
	a.reserve(200)
	for number := int64(0); number < most; number += 1000 {
		a.sent(number, time.Duration(number)*time.Microsecond)
	}
	if waited, ok := a.settle(1000, 3*time.Millisecond); !ok || waited != 2*time.Millisecond {
		t.Errorf("waited %s, %t", waited, ok)
	}
	if _, ok := a.settle(1000, 3*time.Millisecond); ok {
		t.Error("settled twice")
	}
	failed := 0
	fail := func() { failed++ }
	if wait := a.expire(time.Millisecond, 5*time.Millisecond, fail); wait != 4*time.Millisecond {
		t.Errorf("the first is due in %s", wait)
	}
	a.away[1].Store(int64(time.Hour)) // a worker that stood still may have the answer
	if wait := a.expire(time.Minute, 5*time.Millisecond, fail); wait < time.Minute || failed > 0 {
		t.Errorf("wait %s, failed %d", wait, failed)
	}
	a.away[1].Store(0)
	// Number 1 was not sent yet, so expire stops there.
	if wait := a.expire(time.Minute, 5*time.Millisecond, fail); wait >= 0 || failed != 1 {
		t.Errorf("wait %s, failed %d", wait, failed)
	}
	// Times over 18 minutes apart differ in spite of the modulus.
	late := 40 * time.Minute
	a.sent(1, late)
	if waited, ok := a.settle(1, late+14*time.Minute); !ok || waited != 14*time.Minute {
		t.Errorf("waited %s, %t", waited, ok)
	}
}

// TestConnectionSize bounds what a million held connections of sockets take beside the kernel's
// own.
func TestConnectionSize(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 96 {
		t.Errorf("the state of a connection takes %d bytes, want at most 96", size)
	}
}
