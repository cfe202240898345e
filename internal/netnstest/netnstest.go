// Package netnstest runs tests in their own user and network namespaces, where they have all
// privileges and no way out. Only tests import it.
package netnstest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/hosttest"
)

// insideVariable names the test for which a process was started.
const insideVariable = "CTLOAD_TEST_INSIDE"

// nobody is the ID of the ordinary user that runs root's tests a second time.
const nobody = 65534

// Inside reports whether the calling test, which must not be a subtest, runs in its own namespaces,
// with loopback up. Outside, it runs the test again inside, as the same user, takes over its
// outcome and returns false; the test must then return.
func Inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		enter(t)
		return true
	}
	again(t, t.Name(), os.Getuid(), os.Getgid())
	return false
}

// Run runs the body of the calling test in its own namespaces, with loopback up: once as the same
// user and, when that is root, once more as an ordinary user.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		enter(t)
		body(t)
		return
	}
	test := t.Name()
	t.Run("own user", func(t *testing.T) { again(t, test, os.Getuid(), os.Getgid()) })
	if os.Getuid() == 0 {
		t.Run("ordinary user", func(t *testing.T) { again(t, test, nobody, nobody) })
	}
}

// enter prepares the new namespaces for a test.
func enter(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	// The legacy tools lock a file in /run, which an ordinary user cannot write. The process runs
	// only this test, so that it may change the environment of a parallel test.
	if err == nil {
		err = os.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	}
	if err != nil {
		t.Fatalf("making the namespaces habitable: %v", err)
	}
}

// again runs a test in its own process, inside, and takes over its outcome.
func again(t *testing.T, test string, uid, gid int) {
	t.Helper()
	release := hosttest.SharesSettings(t)
	defer release()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+test+"$", "-test.v",
		"-test.count=1")
	cmd.Env = append(hosttest.Environ(), insideVariable+"="+test, "TMPDIR=/tmp",
		// Without it the race detector makes each process wait for a second before it ends.
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	runtime.LockOSThread() // Pdeathsig follows the thread
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	switch {
	case len(out) == 0 && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC)):
		hosttest.Skip(t, "this host lets this user make no namespaces: %v", err)
	case err != nil:
		t.Fatalf("inside: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+test):
		hosttest.Skip(t, "inside: %s", out)
	case !strings.Contains(string(out), "--- PASS: "+test):
		t.Fatalf("the test did not run inside:\n%s", out)
	}
	t.Logf("inside: %s", strings.TrimSpace(string(out)))
}
