package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// pair returns a client with a server of this process at the other end of its stream.
func pair(t *testing.T) (client *Client, ended <-chan error) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- serve(context.Background(), theirs, new(children), faults.Node{})
	}()
	if client, err = NewClient("node", ours); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, done
}

// limit returns a context for calls that answer at once.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCalls(t *testing.T) {
	client, _ := pair(t)
	ctx := limit(t)
	hello, err := client.Hello(ctx)
	if err != nil || hello.Release == "" || hello.CPUs < 1 || hello.MemoryBytes < 1<<20 {
		t.Errorf("%+v, %v", hello, err)
	}
	first, err1 := client.Clock(ctx)
	second, err2 := client.Clock(ctx)
	if errors.Join(err1, err2) != nil || second.Monotonic <= first.Monotonic {
		t.Errorf("clock %v, then %v; %v %v", first.Monotonic, second.Monotonic, err1, err2)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := client.ReadFile(ctx, path); err != nil || text != "content" {
		t.Errorf("%q, %v", text, err)
	}
	_, err = client.ReadFile(ctx, path+"x")
	if err == nil || !strings.Contains(err.Error(), "ReadFile on node: ") ||
		!strings.Contains(err.Error(), "no such file") ||
		strings.Contains(err.Error(), "rpc error") {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func TestExec(t *testing.T) {
	client, _ := pair(t)
	for _, tc := range []struct {
		stdin string
		argv  []string
		want  Output
		err   string
	}{
		{"in", []string{"cat"}, Output{Stdout: "in"}, ""},
		{"", []string{"sh", "-c", "echo out; echo err >&2; exit 3"},
			Output{Stdout: "out\n", Stderr: "err\n", Exit: 3}, ""},
		{"", []string{"/nonexistent/tool"}, Output{}, "run /nonexistent/tool"},
		{"", nil, Output{}, "its name is missing"},
		{"", []string{"sh", "-c", "kill -9 $$"}, Output{}, "killed"},
	} {
		got, err := client.Exec(limit(t), tc.stdin, tc.argv...)
		if tc.err == "" && (err != nil || got != tc.want) {
			t.Errorf("%q: %+v, %v; want %+v", tc.argv, got, err, tc.want)
		}
		if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: %v; want an error with %q", tc.argv, err, tc.err)
		}
	}
}

// TestStreamThatEnds checks that the end of the stream ends every running call, and the server.
func TestStreamThatEnds(t *testing.T) {
	client, ended := pair(t)
	if _, err := client.Hello(limit(t)); err != nil {
		t.Fatal(err)
	}
	call := make(chan error, 1)
	go func() {
		_, err := client.Exec(context.Background(), "", "sleep", "30")
		call <- err
	}()
	if err := client.conn.Close(); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]<-chan error{"the call": call, "the server": ended} {
		select {
		case err := <-c:
			if what == "the call" && !errors.Is(err, errStreamLost) {
				t.Errorf("%s ended with %v, want %v", what, err, errStreamLost)
			}
			if what == "the server" && err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s goes on", what)
		}
	}
	select {
	case <-client.Lost():
	case <-time.After(time.Minute):
		t.Error("the client does not know that its stream has ended")
	}
	if _, err := client.Hello(limit(t)); !errors.Is(err, errStreamLost) {
		t.Errorf("a later call: %v, want %v", err, errStreamLost)
	}
}

// TestNodeThatDoesNotAnswer waits for a node that does not answer yet, as long as the context
// allows.
func TestNodeThatDoesNotAnswer(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	client, err := NewClient("node", ours)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond,
		errors.New("it takes too long"))
	defer cancel()
	if _, err := client.Hello(ctx); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%v; want the cause of the context's end", err)
	}
}

func TestSample(t *testing.T) {
	client, _ := pair(t)
	ctx, cancel := context.WithCancel(limit(t))
	defer cancel()
	var got []samplers.Sample
	err := client.Sample(ctx, 10*time.Millisecond, func(s samplers.Sample) {
		if got = append(got, s); len(got) == 5 {
			cancel()
		}
	})
	if err != nil || len(got) < 5 {
		t.Fatalf("%d samples, %v", len(got), err)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Monotonic <= got[i-1].Monotonic {
			t.Errorf("sample %d is of %v, the one before of %v", i, got[i].Monotonic,
				got[i-1].Monotonic)
		}
	}
	if last, err := client.FinalSample(limit(t)); err != nil || last.System == nil {
		t.Errorf("the last sample is not whole: %+v, %v", last, err)
	}
}

// TestGenerateThatIsCancelled gets the result so far of a cancelled load.
func TestGenerateThatIsCancelled(t *testing.T) {
	client, _ := pair(t)
	const port = 18431
	if err := client.Respond(limit(t), responders.Spec{Kind: responders.HTTP, Address: "127.0.0.1",
		Ports: []uint16{port}}); err != nil {
		t.Fatal(err)
	}
	spec := generators.Spec{Kind: generators.HTTP, Target: "127.0.0.1", Ports: []uint16{port},
		Rate: 200, Duration: time.Minute}
	ctx, cancel := context.WithCancel(limit(t))
	defer cancel()
	result, err := client.Generate(ctx, spec, func(p generators.Progress) {
		if p.Completed > 10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if result.Completed < 10 || result.Offered != result.Completed+result.Failed {
		t.Errorf("offered %d, completed %d, failed %d", result.Offered, result.Completed,
			result.Failed)
	}

	// Another load on the same node, to its end; then a wrong spec, with its error.
	spec.Rate, spec.Count, spec.Duration = 0, 50, 0
	spec.Concurrency = 5
	if result, err = client.Generate(limit(t), spec, nil); err != nil || result.Completed != 50 {
		t.Errorf("completed %d, %v; want 50", result.Completed, err)
	}
	spec.Count = 0
	if _, err = client.Generate(limit(t), spec, nil); err == nil ||
		!strings.Contains(err.Error(), "a load needs a count or a duration") {
		t.Errorf("a load without bounds: %v", err)
	}
}

func TestListenerHandsOutOneConnection(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	l := &listener{conn: newConn(ours)}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		next <- err
	}()
	select {
	case err := <-next:
		t.Fatalf("a second connection: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-next; !errors.Is(err, io.EOF) {
		t.Errorf("%v, want %v", err, io.EOF)
	}
}
