package sockets

import (
	"time"

	"golang.org/x/sys/unix"
)

// Eagerness decides whether to check right after connect if the connection is established. On one
// machine the handshake is often over when connect returns, and the check then saves two calls.
// Over a wire the check is wasted, so after eight misses only every 256th call checks.
type Eagerness struct{ misses, skipped int }

// Try reports whether to check this time.
func (e *Eagerness) Try() bool {
	if e.misses < 8 {
		return true
	}
	if e.skipped++; e.skipped == 256 {
		e.skipped = 0
		return true
	}
	return false
}

// Learn records whether a check was successful.
func (e *Eagerness) Learn(hit bool) {
	if hit {
		e.misses = 0
	} else {
		e.misses++
	}
}

// Retries returns how often to repeat a failed send.
func Retries(errno unix.Errno, awaited bool) int {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS:
		return 100
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPROTO, unix.ENOPROTOOPT, unix.EACCES:
		if awaited {
			return 2
		}
	}
	return 0
}

// Pause waits 100 µs for a full queue to drain.
func Pause() {
	ts := unix.NsecToTimespec(int64(100 * time.Microsecond))
	_ = unix.Nanosleep(&ts, nil) // a signal may shorten it, which does no harm
}
