package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// stdioVariable makes the test's own process the agent.
const stdioVariable = "CTLOAD_TEST_STDIO"

// TestStdioThatBreaks breaks the output of an agent that has made a fault, as the end of ssh or of
// the program that started it does. The agent then writes into a broken pipe, and must still revert
// the fault.
func TestStdioThatBreaks(t *testing.T) {
	if os.Getenv(stdioVariable) != "" {
		os.Exit(RunStdio())
	}
	if !netnstest.Inside(t) {
		return
	}
	const key, file = "net.netfilter.nf_conntrack_udp_timeout",
		"/proc/sys/net/netfilter/nf_conntrack_udp_timeout"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), stdioVariable+"=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := NewClient("node", struct {
		io.ReadCloser
		io.Writer
	}{out, in})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Apply(limit(t), faults.Fault{ID: "1", Kind: actions.Sysctl,
		Sysctl: []tuning.Sysctl{{Key: key, Value: "77"}}}); err != nil {
		t.Fatal(err)
	}
	if during, err := os.ReadFile(file); err != nil || string(during) != "77\n" {
		t.Fatalf("during the fault: %q (%v)", during, err)
	}
	// A call that has begun is answered when nothing reads the answer any more.
	folder := t.TempDir()
	begun, broken := filepath.Join(folder, "begun"), filepath.Join(folder, "broken")
	go func() {
		_, _ = client.Exec(context.Background(), "", "sh", "-c",
			"touch "+begun+"; until test -e "+broken+"; do sleep 0.01; done")
	}()
	hosttest.Eventually(t, "the call has begun", func() bool {
		_, err := os.Stat(begun)
		return err == nil
	})
	if err := errors.Join(out.Close(), os.WriteFile(broken, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // the agent answers before its input ends, too
	if err := in.Close(); err != nil {
		t.Log(err)
	}
	if err := cmd.Wait(); cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Errorf("the agent ended with %v: %s", err, &errs)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("afterwards the timeout is %q, want %q (%v): %s", after, before, err, &errs)
	}
}
