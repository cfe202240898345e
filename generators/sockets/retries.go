package sockets

import (
	"time"

	"golang.org/x/sys/unix"
)

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
