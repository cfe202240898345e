package agent

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
)

// talk runs a command with the given input and its end, and returns its output.
func talk(ctx context.Context, t *testing.T, client *Client, command Interaction,
	input ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs strings.Builder
	next := 0
	exit, err := client.Interact(ctx, command, func() (InteractInput, error) {
		next++
		switch {
		case next <= len(input):
			return InteractInput{Data: []byte(input[next-1])}, nil
		case next == len(input)+1:
			return InteractInput{End: true}, nil
		}
		<-ctx.Done() // the caller stays until the end
		return InteractInput{}, ctx.Err()
	}, func(part InteractOutput) error {
		out.Write(part.Stdout)
		errs.Write(part.Stderr)
		return nil
	})
	if err != nil {
		t.Fatalf("%q: %v", command.Argv, err)
	}
	return out.String(), errs.String(), exit
}

func TestInteract(t *testing.T) {
	client, _ := pair(t)
	ctx := limit(t)
	long := strings.Repeat("0123456789abcdef", 1<<14)
	for _, tc := range []struct {
		name           string
		command        Interaction
		input          []string
		stdout, stderr string
		exit           int
	}{
		{name: "status", command: Interaction{Argv: []string{"sh", "-c",
			"echo out; echo err >&2; exit 3"}}, stdout: "out\n", stderr: "err\n", exit: 3},
		{name: "input in parts", command: Interaction{Argv: []string{"cat"}},
			input: []string{"a", long, "b"}, stdout: "a" + long + "b"},
		{name: "a shell", input: []string{"echo $MARK; ", "exit 4\n"},
			command: Interaction{Environment: []string{"MARK=marked"}}, stdout: "marked\n",
			exit: 4},
		{name: "a signal", command: Interaction{Argv: []string{"sh", "-c", "kill -TERM $$"}},
			exit: 128 + 15},
		{name: "not there", command: Interaction{Argv: []string{"no-such-command"}},
			stderr: "ctload: this node has no no-such-command\n", exit: 127},
		{name: "input unread", command: Interaction{Argv: []string{"true"}}, input: []string{long}},
	} {
		stdout, stderr, exit := talk(ctx, t, client, tc.command, tc.input...)
		if stdout != tc.stdout || stderr != tc.stderr || exit != tc.exit {
			t.Errorf("%s: %d bytes of output (want %d), errors %q (want %q), exit status %d "+
				"(want %d)",
				tc.name, len(stdout), len(tc.stdout), stderr, tc.stderr, exit, tc.exit)
		}
	}
}

// TestInteractOnTerminal checks that a command has a terminal of the given size, and that the
// command's end ends the terminal.
func TestInteractOnTerminal(t *testing.T) {
	client, _ := pair(t)
	ctx := limit(t)
	stdout, _, exit := talk(ctx, t, client, Interaction{
		Argv:     []string{"sh", "-c", "test -t 0 && test -t 1 && stty size; exit 5"},
		Terminal: &TerminalSize{Rows: 24, Cols: 81},
	})
	if stdout != "24 81\r\n" || exit != 5 {
		t.Errorf("%q, exit status %d", stdout, exit)
	}
	// A background process holds the terminal; the end of its shell is the end all the same.
	began := time.Now()
	_, _, exit = talk(ctx, t, client, Interaction{
		Argv:     []string{"sh", "-c", "trap '' HUP; sleep 20 & exit 6"},
		Terminal: &TerminalSize{Rows: 24, Cols: 80},
	})
	if took := time.Since(began); exit != 6 || took > 19*time.Second {
		t.Errorf("exit status %d after %v", exit, took)
	}
}

// TestInteractLeft checks that a command ends, with all its processes, when its caller has gone.
func TestInteractLeft(t *testing.T) {
	client, _ := pair(t)
	ctx, cancel := context.WithCancel(limit(t))
	ready := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		command := Interaction{Argv: []string{"sh", "-c", "sleep 600 & echo $!; wait"}}
		input := func() (InteractInput, error) {
			<-ctx.Done()
			return InteractInput{}, io.ErrUnexpectedEOF
		}
		_, err := client.Interact(ctx, command, input, func(part InteractOutput) error {
			ready <- strings.TrimSpace(string(part.Stdout))
			return nil
		})
		ended <- err
	}()
	child := <-ready
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	hosttest.Eventually(t, "process "+child+" ends", func() bool {
		stat, err := client.ReadFile(limit(t), "/proc/"+child+"/stat")
		return err != nil || strings.Contains(stat, ") Z ")
	})
}
