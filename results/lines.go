package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Lines appends values to a file as JSON, one on each line (JSON lines). It writes each value at
// once, so that a crash loses none and tears at most the last. It is safe for concurrent use.
type Lines[T any] struct {
	mu   sync.Mutex
	file *os.File
	size int64 // of the complete lines
}

func appendLines[T any](path string) (*Lines[T], error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, diskError("opening a series", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(diskError("opening a series", err), file.Close())
	}
	return &Lines[T]{file: file, size: info.Size()}, nil
}

// Append writes one value.
func (l *Lines[T]) Append(v T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", l.file.Name(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(append(data, '\n'))
	if err != nil {
		// A full disk takes a part of the line: remove that part, or the next line would follow it
		// directly.
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return diskError("writing "+l.file.Name(), err)
	}
	l.size += int64(n)
	return nil
}

// Replace replaces all written values by others. Readers see the old file or the new one. Later
// appends follow the new values.
func (l *Lines[T]) Replace(values []T) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.file.Name()
	err := writeWhole(path, func(w io.Writer) error {
		encoder := json.NewEncoder(w) // ends each value with a newline
		encoder.SetEscapeHTML(false)
		for _, v := range values {
			if err := encoder.Encode(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	again, err := appendLines[T](path)
	if err != nil {
		return err
	}
	err = l.file.Close()
	l.file, l.size = again.file, again.size
	if err != nil {
		return diskError("closing a series", err)
	}
	return nil
}

// Close closes the file.
func (l *Lines[T]) Close() error {
	if err := l.file.Close(); err != nil {
		return diskError("closing a series", err)
	}
	return nil
}

// readLines reads JSON lines. It leaves out a last line without its newline that does not parse: a
// crash tore it. Any other line that does not parse is an error with its number.
func readLines[T any](r io.Reader) ([]T, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading a series: %w", err)
	}
	var values []T
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			if !whole {
				break
			}
			return nil, fmt.Errorf("reading a series: line %d: %w", number, err)
		}
		values = append(values, v)
	}
	return values, nil
}

func readLinesFile[T any](path string) (values []T, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a series: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	values, err = readLines[T](file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}
