package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// binary is ctload as users build it. The test binary cannot replace it: with -race it is linked
// dynamically and too slow for a guest's init.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ctload-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ctload")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ctload: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// needsLab skips a test where no lab can be made. Tests with a lab run concurrently, as many as
// there are CPUs: a trial mostly waits.
func needsLab(t *testing.T) {
	t.Helper()
	needsLabAlone(t)
	t.Parallel()
}

// needsLabAlone does the same for a test that checks the whole host, or times: no other runs beside
// it.
func needsLabAlone(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots virtual machines")
	}
	missing, err := missingForLab()
	if err != nil {
		t.Fatal(err)
	}
	if missing == "" {
		return
	}
	hosttest.Skip(t, "no lab can be made here:\n%s", missing)
}

// missingForLab is the output of ctload doctor where a lab lacks something, and empty elsewhere.
var missingForLab = sync.OnceValues(func() (string, error) {
	path, err := binary()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "doctor").Output()
	if _, exited := errors.AsType[*exec.ExitError](err); exited && ctx.Err() == nil {
		return string(said), nil
	}
	return "", err
})

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
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
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
	return outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// lockedBuffer can be read while a command writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitFor waits until text appears in a command's output.
func waitFor(t *testing.T, text string, limit time.Duration, b *lockedBuffer) {
	t.Helper()
	if !poll(limit, func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("%q did not appear within %v in:\n%s", text, limit, b.String())
	}
}

// poll calls ask ten times a second until it returns true or the time is up.
func poll(limit time.Duration, ask func() bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ask() {
			return true
		}
		select {
		case <-ctx.Done():
			return ask()
		case <-tick.C:
		}
	}
}

// decode parses run.json from a text.
func decode(t *testing.T, text string) *results.Run {
	t.Helper()
	run := new(results.Run)
	if err := json.Unmarshal([]byte(text), run); err != nil {
		t.Fatalf("run.json: %v in\n%s", err, text)
	}
	return run
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
