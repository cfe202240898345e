package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

func TestMain(m *testing.M) { labtest.Main(m, nil) }

// needsLab skips a test where no lab can be made. Tests with a lab run concurrently, as many as
// there are CPUs: a trial mostly waits. A test that checks the whole host, or times, calls
// labtest.Need instead, so that no other runs beside it.
func needsLab(t *testing.T) {
	t.Helper()
	labtest.Need(t)
	t.Parallel()
}

// outcome is the result of a command.
type outcome struct {
	status         int
	stdout, stderr string
}

// ctload runs the program and fails the test when it takes longer than limit.
func ctload(t *testing.T, limit time.Duration, args ...string) outcome {
	t.Helper()
	return finish(t, command(t, args...), limit)
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(labtest.Ctload(t), args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// finish runs cmd to its end.
func finish(t *testing.T, cmd *exec.Cmd, limit time.Duration) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, cmd, limit, &stdout, &stderr)
}

func wait(t *testing.T, cmd *exec.Cmd, limit time.Duration, stdout, stderr fmt.Stringer) outcome {
	t.Helper()
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("%v did not end within %v\n%s\n%s", cmd.Args, limit, stdout, stderr)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(),
		stderr: stderr.String()}
}

// decode parses run.json from a text, without the trials that another trial repeated.
func decode(t *testing.T, text string) *results.Run {
	t.Helper()
	run := new(results.Run)
	if err := json.Unmarshal([]byte(text), run); err != nil {
		t.Fatalf("run.json: %v in\n%s", err, text)
	}
	return labtest.Counted(run)
}

// small is an experiment that takes a few seconds: some requests against a tracked server.
const small = `
experiment: small
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - generator: http
    requests: %d
    concurrency: 50
scenarios:
  tracked: {}
recovery: 1s
`

// experiment writes an experiment file and returns its path.
func experiment(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
