package generators

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f in a goroutine that keeps its thread, after entering the network namespace whose
// file is path ("": the process's). The thread ends with the goroutine, so that nobody inherits
// the namespace. f gets the error of entering it.
func onThread(path string, f func(err error)) {
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		var err error
		if path != "" {
			err = enterNamespace(path)
		}
		f(err)
	}()
}

func enterNamespace(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
	if err != nil {
		err = fmt.Errorf("entering network namespace %s: %w", path, err)
	}
	return errors.Join(err, file.Close())
}

// initialNamespace reports whether the calling thread is in the initial network namespace. The
// kernel registers those of its net.core settings that are not kept per namespace only there, so
// that a namespace made later has no netdev_budget (read in 4.19 to 6.18). Inode numbers do not
// tell: they were not fixed before 6.18, and PID 1's namespace is not the initial one in a container.
func initialNamespace() (bool, error) {
	_, err := os.Stat("/proc/sys/net/core/netdev_budget")
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		// Only an answer if /proc/sys is there at all.
		if _, err := os.Stat("/proc/sys/net/core/somaxconn"); err != nil {
			return false, fmt.Errorf("telling the initial network namespace from others: %w", err)
		}
		return false, nil
	}
	return false, fmt.Errorf("telling the initial network namespace from others: %w", err)
}
