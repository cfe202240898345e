package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctload/ctload/vm"
)

// TestServe_EndlessMessage sends a message without an end: the lab hangs up, takes no memory for
// it, and answers others.
func TestServe_EndlessMessage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	server, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, About{Name: "x"}, map[string]vm.Node{}) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	part := []byte(strings.Repeat("A", 1<<16))
	_, err = conn.Write([]byte(`{"do":"about","node":"`))
	sent := 0
	for err == nil && sent < 64*maxMessage {
		_, err = conn.Write(part)
		sent += len(part)
	}
	if err == nil {
		t.Errorf("the lab took %d bytes", sent)
	}
	if about, err := Look(path); err != nil || about.Name != "x" {
		t.Errorf("another caller gets %+v, %v", about, err)
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// TestAttach serves a socket that another process would have opened.
func TestAttach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	opened, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := opened.File()
	if err != nil {
		t.Fatal(err)
	}
	server, err := Attach(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, About{Name: "handed over"}, map[string]vm.Node{}) }()
	if about, err := Look(path); err != nil || about.Name != "handed over" {
		t.Errorf("%+v, %v", about, err)
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Look(path); !errors.Is(err, errNone) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := Attach(nil); err == nil {
		t.Error("no socket was taken for one")
	}
}

// FuzzServe sends the lab what any program of the user may send: it answers or hangs up, and ends
// only when it is asked to.
func FuzzServe(f *testing.F) {
	for _, text := range []string{`{"do":"about"}`, `{"do":"down"}`, `{"do":"run","node":"dut",` +
		`"command":{"argv":["echo"]}}`, `{"do":"run","node":"\u0000"}`, "[[[[", "garbage", "null"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		lab, caller := net.Pipe()
		ended := make(chan bool, 1)
		go func() {
			ended <- newWire(lab).serve(t.Context(), About{Name: "x"}, map[string]vm.Node{})
			_ = lab.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, caller) }()
		_, _ = caller.Write(append(text, '\n')) // the lab may hang up before its end
		_ = caller.Close()
		var asked request
		whole := json.NewDecoder(bytes.NewReader(text)).Decode(&asked) == nil
		if down := <-ended; down && (!whole || asked.Do != doDown) {
			t.Errorf("%q ends the lab", text)
		}
	})
}
