// Package textfile reads texts that the user names, within bounds of time and memory: a path may
// lead to a device, to a pipe without a writer, or to a file of /proc that waits.
package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// longestLine bounds a line, in bytes: a text without line ends has no end either.
	longestLine = 4 << 20
	// beginning is the length, in bytes, of the part in which no text has a NUL byte. Logs may hold
	// some further on, after a loss of power.
	beginning = 4096
	// patience bounds the reading of a regular file: those of /proc may wait for events.
	patience = 5 * time.Second
)

// Read reads the text of a file, of at most limit bytes. The error is an [*fs.PathError].
func Read(path string, limit int64) ([]byte, error) {
	file, err := Open(path, limit)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := ReadAll(file, limit)
	return text, wrap(path, err)
}

// Open opens a regular file of at most limit bytes, or a pipe, for reading. The error is an
// [*fs.PathError].
func Open(path string, limit int64) (*os.File, error) {
	// Without O_NONBLOCK a pipe without a writer would hang.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		switch mode := info.Mode(); {
		case mode.IsDir():
			err = errors.New("it is a folder")
		case mode.IsRegular() && info.Size() > limit:
			err = tooLong(limit)
		case mode.IsRegular():
			_ = file.SetReadDeadline(time.Now().Add(patience)) // refused by files that never wait
		case mode.Type() != fs.ModeNamedPipe:
			err = errors.New("it is a device or a socket, and no file")
		}
	}
	if err != nil {
		return nil, errors.Join(wrap(path, err), file.Close())
	}
	return file, nil
}

// ReadAll reads a text to its end, of at most limit bytes. It ends at the first sign of what is no
// text.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	var text []byte
	for line := 0; ; { // where the last line begins
		text = slices.Grow(text, bytes.MinRead)
		n, err := r.Read(text[len(text):cap(text)])
		from := len(text)
		text = text[:from+n]
		if i := bytes.LastIndexByte(text[from:], '\n'); i >= 0 {
			line = from + i + 1
		}
		switch {
		case from < beginning && bytes.IndexByte(text[:min(len(text), beginning)], 0) >= 0:
			return nil, errors.New("it holds a NUL byte; it is not text")
		case int64(len(text)) > limit:
			return nil, tooLong(limit)
		case len(text)-line > longestLine:
			return nil, fmt.Errorf("a line has more than %d MiB; it is not text", longestLine>>20)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("it does not end within %v", patience)
		case errors.Is(err, io.EOF):
			return text, nil
		case err != nil:
			return nil, err
		}
	}
}

func tooLong(limit int64) error { return fmt.Errorf("it is longer than %d MiB", limit>>20) }

// wrap returns an error about a file, unless it is one already.
func wrap(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}
