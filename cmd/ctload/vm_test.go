package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// TestVM makes a lab, inspects it and ends it, with machines and with namespaces.
func TestVM(t *testing.T) {
	labtest.Need(t)
	for _, driver := range []string{"libvirt", "netns"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			lookingAround{text: fmt.Sprintf(small, 1), args: []string{"--driver", driver},
				shared: driver == "netns"}.test(t)
		})
	}
}

// TestVMOnDaemon does the same on an existing libvirt daemon, where nothing is left.
func TestVMOnDaemon(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	onDaemon(t, func(h *libvirttest.Hypervisor, state string) {
		lookingAround{text: fmt.Sprintf(small, 1), args: []string{"--connect", h.URI()},
			environment: []string{"XDG_STATE_HOME=" + state}}.test(t)
	})
}

// TestVM_WithoutDaemon kills the daemon of a lab that is up: the lab ends at once, names the loss,
// and leaves nothing.
func TestVM_WithoutDaemon(t *testing.T) {
	labtest.Need(t)
	runtime, err := os.MkdirTemp("/tmp", "ctload-vm-") // a short path, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	mark := "CTLOAD_TEST=" + runtime
	cmd := command(t, "vm", "up", experiment(t, fmt.Sprintf(small, 1)))
	cmd.Env = append(os.Environ(), mark, "XDG_RUNTIME_DIR="+runtime)
	var said hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said.WaitFor(t, "is up", 5*time.Minute)
	killed, machines := 0, 0
	for _, p := range marked(t, mark) {
		if strings.Contains(p.command, "qemu-system") {
			machines++
		}
		if strings.Contains(p.command, "libvirtd -f ") {
			killed++
			if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed == 0 || machines == 0 {
		t.Fatalf("%d daemons, %d machines: %v", killed, machines, marked(t, mark))
	}
	began := time.Now()
	// It was silent for 90 s before it noticed.
	o := wait(t, cmd, 45*time.Second, &said, &said)
	t.Logf("ended %.1f s after the daemon", time.Since(began).Seconds())
	if o.status != statusHost || !strings.Contains(o.stderr, "libvirt") {
		t.Errorf("exit status %d, want %d and the daemon\n%s", o.status, statusHost, o.stderr)
	}
	noneLeft(t, mark)
}

// lookingAround is a lab to inspect.
type lookingAround struct {
	text        string   // of its experiment
	args        []string // flags that choose it
	shared      bool     // its DUT has the kernel of this host
	environment []string // of all commands, besides this one's
	// look runs further commands in the DUT; it may be nil.
	look func(shell func(argv ...string) outcome)
}

func (s lookingAround) test(t *testing.T) {
	t.Helper()
	// A short path: the length of socket paths is limited.
	runtime, err := os.MkdirTemp("/tmp", "ctload-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	mark := "CTLOAD_TEST=" + runtime
	with := func(args ...string) *exec.Cmd {
		cmd := command(t, append([]string{"vm"}, args...)...)
		cmd.Env = slices.Concat(os.Environ(), []string{mark, "XDG_RUNTIME_DIR=" + runtime},
			s.environment)
		return cmd
	}
	do := func(args ...string) outcome {
		t.Helper()
		return finish(t, with(args...), 2*time.Minute)
	}
	o := do("shell", "--", "true")
	if o.status != statusHost || !strings.Contains(o.stderr, "ctload vm up") {
		t.Errorf("a shell in no lab: exit status %d\n%s", o.status, o.stderr)
	}
	var said hosttest.Buffer
	up := with(append([]string{"up", experiment(t, s.text)}, s.args...)...)
	up.Stdout, up.Stderr = &said, &said
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Process.Kill() })
	said.WaitFor(t, "is up", 5*time.Minute)

	for _, tc := range []struct {
		name   string
		args   []string
		stdin  string
		status int
		stdout string
		stderr string
	}{
		{name: "output, errors and status",
			args: []string{"client", "--", "sh", "-c", "echo out; echo err >&2; exit 7"}, status: 7,
			stdout: "out\n", stderr: "err\n"},
		{name: "input", args: []string{"--", "cat"}, stdin: strings.Repeat("0123456789", 50_000),
			stdout: strings.Repeat("0123456789", 50_000)},
		{name: "a shell without a terminal", args: nil, stdin: "exit 5\n", status: 5},
		{name: "a signal", args: []string{"--", "sh", "-c", "kill -KILL $$"}, status: 137},
		{name: "no such command", args: []string{"--", "no-such-command"}, status: 127,
			stderr: "ctload: this node has no no-such-command\n"},
	} {
		cmd := with(append([]string{"shell"}, tc.args...)...)
		cmd.Stdin = strings.NewReader(tc.stdin)
		o := finish(t, cmd, 2*time.Minute)
		if o.status != tc.status || o.stdout != tc.stdout || o.stderr != tc.stderr {
			t.Errorf("%s: exit status %d, want %d; %d bytes of output, want %d; errors %q, want %q",
				tc.name, o.status, tc.status, len(o.stdout), len(tc.stdout), o.stderr, tc.stderr)
		}
	}
	o = do("shell", "clint", "--", "true")
	if o.status != statusUsage || !strings.Contains(o.stderr, `"client"`) {
		t.Errorf("a node that is not there: exit status %d\n%s", o.status, o.stderr)
	}

	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		t.Fatal(err)
	}
	kernel := do("shell", "dut", "--", "uname", "-r").stdout
	ofHost := strings.TrimSpace(kernel) == unix.ByteSliceToString(host.Release[:])
	if ofHost != s.shared {
		t.Errorf("the kernel of the DUT is %q", kernel)
	}
	rules := do("shell", "--", "iptables-save").stdout
	if !strings.Contains(rules, "--ctstate ESTABLISHED") {
		t.Errorf("the DUT is not configured:\n%s", rules)
	}
	listening := do("shell", "--", "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
	if !strings.Contains(listening, ":0050 ") {
		t.Errorf("nothing listens on port 80 of the DUT:\n%s", listening)
	}
	onTerminal(t, with("shell"))
	if s.look != nil {
		s.look(func(argv ...string) outcome {
			return finish(t, with(append([]string{"shell", "--"}, argv...)...), 5*time.Minute)
		})
	}
	o = finish(t, with("up", "table-full", "--scenario", "raw-notrack", "--driver", "netns"),
		2*time.Minute)
	if o.status != statusHost || !strings.Contains(o.stderr, "up already") {
		t.Errorf("a second lab: exit status %d\n%s", o.status, o.stderr)
	}

	if o := do("down"); o.status != statusOK {
		t.Errorf("down: exit status %d\n%s", o.status, o.stderr)
	}
	if o := wait(t, up, 2*time.Minute, &said, &said); o.status != statusOK {
		t.Errorf("the lab ended with exit status %d:\n%s", o.status, o.stdout)
	}
	noneLeft(t, mark)
	if o := do("down"); o.status != statusHost {
		t.Errorf("down of no lab: exit status %d\n%s", o.status, o.stderr)
	}
}

// onTerminal talks with a shell through a terminal of its own, as script(1) makes one.
func onTerminal(t *testing.T, shell *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(hosttest.Program(t, "script"), "-qec", strings.Join(shell.Args, " "),
		"/dev/null")
	cmd.Env, cmd.Dir = slices.Concat(shell.Env, []string{"TERM=vt100"}), shell.Dir
	cmd.Stdin = strings.NewReader(
		"stty rows 42 2>/dev/null; test -t 0 && echo a term''inal of type $TERM; exit 6\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := wait(t, cmd, 2*time.Minute, &out, &out)
	if o.status != 6 || !strings.Contains(o.stdout, "a terminal of type vt100") {
		t.Errorf("a shell on a terminal: exit status %d\n%s", o.status, o.stdout)
	}
}
