package textfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// endless repeats a text.
type endless string

func (e endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func TestReadAll(t *testing.T) {
	const limit = 16 << 20
	for name, test := range map[string]struct {
		from io.Reader
		want string // of the error; empty: none
	}{
		"a text":       {strings.NewReader("a\nb"), ""},
		"nothing":      {strings.NewReader(""), ""},
		"piecewise":    {iotest.OneByteReader(strings.NewReader("a\nb")), ""},
		"NUL in a log": {strings.NewReader(strings.Repeat("x\n", 5000) + "\x00\n"), ""},
		"zeros":        {endless("\x00"), "NUL"},
		"UTF-16":       {strings.NewReader("a\x00\n\x00"), "NUL"},
		"one line":     {endless("x"), "a line has more than 4 MiB"},
		"lines":        {endless("hello\n"), "longer than 16 MiB"},
		"zeros behind": {io.MultiReader(strings.NewReader(strings.Repeat("x\n", 5000)),
			endless("\x00")), "a line has more than 4 MiB"},
		"a broken reader": {iotest.ErrReader(io.ErrNoProgress), io.ErrNoProgress.Error()},
	} {
		text, err := ReadAll(test.from, limit)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %d bytes, %v; want %q", name, len(text), err, test.want)
		}
	}
}

// TestRead opens what has no end, or no beginning: each ends with an error that names the path.
func TestRead(t *testing.T) {
	const limit = 1 << 20
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(unix.Mkfifo(in("pipe"), 0o600), os.Mkdir(in("folder"), 0o700),
		os.WriteFile(in("sparse"), nil, 0o600), os.Truncate(in("sparse"), 2<<30),
		os.WriteFile(in("text"), []byte("a\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/dev/zero": "device", "/dev/full": "device", in("folder"): "folder",
		in("sparse"): "longer than 1 MiB", in("missing"): "no such file",
		"/proc/self/mem": "input/output error",
	} {
		_, err := Read(path, limit)
		if _, ok := errors.AsType[*fs.PathError](err); !ok ||
			!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for path, want := range map[string]string{in("text"): "a\n", in("pipe"): ""} {
		text, err := Read(path, limit)
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// TestRead_Pipe waits for the writer of a pipe, as <(command) makes one.
func TestRead_Pipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := make(chan []byte)
	go func() {
		text, err := Read("/proc/self/fd/"+strconv.Itoa(int(r.Fd())), 1<<20)
		if err != nil {
			t.Error(err)
		}
		read <- text
	}()
	_, err = w.WriteString("a\n")
	err = errors.Join(err, w.Close())
	if text := <-read; err != nil || !bytes.Equal(text, []byte("a\n")) {
		t.Errorf("%q, %v", text, err)
	}
}
