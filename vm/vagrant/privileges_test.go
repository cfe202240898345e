package vagrant

import (
	"os/exec"
	"strings"
	"testing"
)

// TestStartUnprivileged starts a program that tells what it has: no ambient capability, and no way
// to get privileges by another program. This process keeps its own.
func TestStartUnprivileged(t *testing.T) {
	status := func(start func(*exec.Cmd) error) string {
		t.Helper()
		var said strings.Builder
		cmd := exec.Command("sh", "-c", "exec cat /proc/self/status")
		cmd.Stdout = &said
		err := start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		return said.String()
	}
	before := status((*exec.Cmd).Start)
	given := status(startUnprivileged)
	for _, line := range []string{"NoNewPrivs:\t1\n", "CapAmb:\t0000000000000000\n"} {
		if !strings.Contains(given, line) {
			t.Errorf("%q is not in\n%s", line, given)
		}
	}
	if after := status((*exec.Cmd).Start); strings.Contains(after, "NoNewPrivs:\t1") &&
		!strings.Contains(before, "NoNewPrivs:\t1") {
		t.Error("this process has lost its privileges")
	}
}
