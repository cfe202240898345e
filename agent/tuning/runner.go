package tuning

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Runner runs a program to its end with stdin as its standard input and returns its standard
// output. When the program fails, the error holds its standard error (see [ToolError]). PID 1
// passes its own, so that its reaper does not take the child's status.
type Runner func(ctx context.Context, stdin, name string, args ...string) (stdout string, err error)

// ToolError reports a program that failed or could not be run.
type ToolError struct {
	Name   string
	Args   []string
	Stderr string
	Err    error // of os/exec
}

// Error returns the program, its end and its standard error.
func (e *ToolError) Error() string {
	line := strings.Join(append([]string{e.Name}, e.Args...), " ")
	if text := strings.TrimSpace(e.Stderr); text != "" {
		return fmt.Sprintf("%s: %v: %s", line, e.Err, text)
	}
	return fmt.Sprintf("%s: %v", line, e.Err)
}

// Unwrap returns the end of the program.
func (e *ToolError) Unwrap() error { return e.Err }

// Exec runs a program as an ordinary process; it is a [Runner].
func Exec(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	// English error texts, whatever the machine's language.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// A grandchild that keeps the pipes open must not delay the return after the program has ended.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return stdout.String(), &ToolError{Name: name, Args: args, Stderr: stderr.String(), Err: err}
	}
	return stdout.String(), nil
}
