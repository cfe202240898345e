package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/samplers"
)

// gate is a stream that a test can shut: its reads then wait.
type gate struct {
	io.ReadWriteCloser
	shut sync.Mutex
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.ReadWriteCloser.Read(p)
	g.shut.Lock()
	defer g.shut.Unlock()
	return n, err
}

// gated returns a client whose node answers through a gate.
func gated(t *testing.T) (*Client, *gate) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = serve(context.Background(), theirs, new(children), faults.Node{}) }()
	g := &gate{ReadWriteCloser: ours}
	client, err := NewClient("far", g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	client.pulse.interval = 20 * time.Millisecond
	return client, g
}

// TestHeartbeat_SilentNode ends every call to a node that stops answering, and names the node and
// its last word.
func TestHeartbeat_SilentNode(t *testing.T) {
	client, gate := gated(t)
	ctx := limit(t)
	if _, err := client.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	sampled := make(chan struct{})
	go func() {
		ended <- client.Sample(ctx, time.Hour, func(samplers.Sample) { close(sampled) })
	}()
	<-sampled
	gate.shut.Lock()
	defer gate.shut.Unlock()
	err := <-ended
	silent, ok := errors.AsType[*silentError](err)
	if !ok || silent.Node != "far" || silent.LastWord != "Sample" || silent.For <= 0 {
		t.Errorf("sampling ended with %v", err)
	}
	if _, err := client.Hello(ctx); !errors.Is(err, silent) {
		t.Errorf("a later call ended with %v", err)
	}
	<-client.Lost()
	if !errors.Is(client.Gone(), silent) {
		t.Errorf("gone: %v", client.Gone())
	}
}

// TestHeartbeat_PausedNode lets a node be silent that is paused, and expects it to answer later.
func TestHeartbeat_PausedNode(t *testing.T) {
	client, gate := gated(t)
	ctx := limit(t)
	if _, err := client.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	client.Hush()
	gate.shut.Lock()
	select {
	case <-client.Lost():
		t.Errorf("a paused node was given up: %v", client.Gone())
	case <-time.After(3 * silentBeats * client.pulse.interval):
	}
	gate.shut.Unlock()
	client.Unhush()
	if _, err := client.Hello(ctx); err != nil {
		t.Error(err)
	}
	gate.shut.Lock()
	defer gate.shut.Unlock()
	<-client.Lost()
}
