package sandbox

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Supervise runs as PID 1 of the sandbox: it arranges the namespaces, starts the command and reaps
// until the command ends; it returns the command's exit status. The kernel then kills all other
// processes of the PID namespace.
func Supervise() int {
	if err := arrange(); err != nil {
		fmt.Fprintf(os.Stderr, "ctload: %v\n", err)
		return 3
	}
	// The death signal is lost where the parent died before it was set; the pipe still ends.
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(lifeFD, "life line"))
		os.Exit(137)
	}()

	interrupts := make(chan os.Signal, 4)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = "ctload"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if os.Getenv(hostEnv) != "" {
		// Descriptor hostFD.
		cmd.ExtraFiles = []*os.File{os.NewFile(supervisorHostFD, "host's network")}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "ctload: start the command in the sandbox: %v\n", err)
		return 3
	}
	go func() {
		for range interrupts {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}()
	return reapUntil(cmd.Process.Pid)
}

// reapUntil reaps every child, its own and the orphans that PID 1 inherits, until pid has ended.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "ctload: wait for the command in the sandbox: %v\n", err)
			return 3
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}
