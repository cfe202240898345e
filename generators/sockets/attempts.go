package sockets

import (
	"time"

	"golang.org/x/sys/unix"
)

// Eagerness decides whether to look right after connect if the connection is there already. On
// one machine the handshake is often over when connect returns, and a look then saves two calls;
// over a wire the look is wasted, so after a few misses it is only tried now and then.
type Eagerness struct{ misses, skipped int }

// Try reports whether to look this time.
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

// Learn notes whether a look has found anything.
func (e *Eagerness) Learn(hit bool) {
	if hit {
		e.misses = 0
	} else {
		e.misses++
	}
}

// Retries returns how often a failed send is tried again.
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

// Pause gives a full queue a moment.
func Pause() {
	ts := unix.NsecToTimespec(int64(100 * time.Microsecond))
	_ = unix.Nanosleep(&ts, nil) // shorter when a signal comes, which does no harm
}
