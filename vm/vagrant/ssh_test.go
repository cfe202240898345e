package vagrant

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// here puts into PATH an ssh that runs its command on this host, and a sudo that changes no user.
func here(t *testing.T) endpoint {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{
		"ssh":  "for command; do :; done\nexec sh -c \"$command\"\n",
		"sudo": "shift\nexec \"$@\"\n", // -n
	} {
		err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755)
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return "/dev/null"
}

func TestCommandsOverSSH(t *testing.T) {
	e := here(t)
	out, err := e.run(t.Context(), strings.NewReader("in"), "cat; echo out")
	if err != nil || out != "inout\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err = e.run(t.Context(), nil, "echo no such thing >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("%v; want what the command said", err)
	}
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "folder", "to")
	if err := os.WriteFile(from, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.copy(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "program" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestUntil retries a machine that does not exist yet, as long as the context allows.
func TestUntil(t *testing.T) {
	e := here(t)
	file := filepath.Join(t.TempDir(), "tries")
	if err := e.until(t.Context(), "echo >>"+file+"; test $(wc -l <"+file+") -ge 3"); err != nil {
		t.Error(err)
	}
	late := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, late)
	defer cancel()
	if err := e.until(ctx, "echo refused >&2; false"); !errors.Is(err, late) {
		t.Errorf("%v, want %v", err, late)
	}
}

func TestStreamOverSSH(t *testing.T) {
	e := here(t)
	stream, err := e.stream("echo said >&2; exec cat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(stream, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(stream.Close(), stream.Close()); err != nil {
		t.Error(err)
	}
	if said := stream.said.String(); said != "said" {
		t.Errorf("it said %q", said)
	}
	if _, err := stream.Read(got); err == nil {
		t.Error("a closed stream can be read")
	}
}
