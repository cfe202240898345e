// Package threads runs functions on threads of their own: in a network namespace, on a CPU, at the same moment
// as others.
package threads

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Run runs f in a goroutine that keeps its thread, after entering the network namespace whose
// file is path ("": the process's). The thread ends with the goroutine, so that nobody inherits
// the namespace. f gets the error of entering it.
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
