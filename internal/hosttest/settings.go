package hosttest

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The locks are on folders of the module: they exist, every user may open them, and the kernel
// releases the lock of a process that dies.
const (
	settingsLock = "internal"
	// Tests that share wait in it behind one that changes.
	queueLock = "internal/hosttest"
)

// SharesSettings keeps the host-wide settings of connection tracking unchanged until release, for a
// test in namespaces: nf_conntrack_max limits the tables of all namespaces.
func SharesSettings(t testing.TB) (release func()) {
	t.Helper()
	return lockSettings(t, unix.LOCK_SH)
}

// ChangesSettings waits until no test of any package shares the host-wide settings of connection
// tracking, and reserves them for the caller until release.
func ChangesSettings(t testing.TB) (release func()) {
	t.Helper()
	return lockSettings(t, unix.LOCK_EX)
}

func lockSettings(t testing.TB, how int) (release func()) {
	t.Helper()
	leaveQueue := lock(t, queueLock, unix.LOCK_EX)
	defer leaveQueue()
	release = sync.OnceFunc(lock(t, settingsLock, how))
	t.Cleanup(release)
	return release
}

func lock(t testing.TB, folder string, how int) (release func()) {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, folder))
	if err == nil {
		err = ignoringSignals(func() error { return unix.Flock(int(f.Fd()), how) })
	}
	if err != nil {
		t.Fatalf("lock the host's settings: %v", err)
	}
	return func() { _ = f.Close() }
}

func ignoringSignals(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
