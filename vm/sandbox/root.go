package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostEnv tells a process in the sandbox that it holds the host's network namespace, see [OnHost].
const hostEnv = "CTLOAD_HOST_NETWORK"

// The descriptors of the host's network namespace in the supervisor and in the command.
const (
	supervisorHostFD = lifeFD + 1
	hostFD           = 3
)

// RunAsRoot does what [Run] does, for root with all privileges: the sandbox has no user namespace
// of its own, so that code inside can change settings of the host with [OnHost]. All else ends with
// the sandbox as with Run; changes of the host stay.
func RunAsRoot(ctx context.Context, args []string, input []byte) (int, error) {
	host, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return 0, fmt.Errorf("open the host's network namespace: %w", err)
	}
	defer host.Close()
	if err := os.Setenv(hostEnv, "1"); err != nil {
		return 0, err
	}
	return run(ctx, args, input, &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}, host)
}

// OnHost runs do in the network namespace that the sandbox was made from; outside of a sandbox, in
// the caller's own. It needs a sandbox of [RunAsRoot].
func OnHost(do func() error) error {
	if !Inside() {
		return do()
	}
	if os.Getenv(hostEnv) == "" {
		return errors.New("this sandbox has no way to its host's network namespace")
	}
	ended := make(chan error)
	go func() {
		// Never unlocked: the thread is in another namespace than the rest and ends with this
		// goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(hostFD, unix.CLONE_NEWNET); err != nil {
			ended <- fmt.Errorf("enter the host's network namespace: %w", err)
			return
		}
		ended <- do()
	}()
	return <-ended
}
