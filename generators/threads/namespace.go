// Package threads runs functions on dedicated threads: in a network namespace, on a CPU, or several
// at the same moment.
package threads

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Run runs f in a goroutine that keeps its thread, inside the network namespace whose file is path
// ("": the process's). The thread ends with the goroutine, so that no other goroutine inherits the
// namespace. f gets the error of entering it. Entering needs CAP_SYS_ADMIN in the user namespace
// that owns the network namespace.
func Run(path string, f func(err error)) {
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
