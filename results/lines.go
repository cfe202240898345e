package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Lines appends values to a file as JSON, one on each line (JSON lines). It writes each value at
// once, so that a crash loses none and tears at most the last. It is safe for concurrent use.
type Lines[T any] struct {
	of   *TrialFolder
	name string

	mu   sync.Mutex
	file *os.File
	size int64 // of the complete lines
}

func appendLines[T any](of *TrialFolder, name string) (*Lines[T], error) {
	const flags = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	file, err := of.of.root.OpenFile(of.at(name), flags, of.of.mode&0o666)
	if err != nil {
		return nil, diskError("opening a series", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(diskError("opening a series", err), file.Close())
	}
	return &Lines[T]{of: of, name: name, file: file, size: info.Size()}, nil
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
		// A full disk takes a part of the line: remove it, or the next line would follow it.
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return diskError("writing "+l.file.Name(), err)
	}
	l.size += int64(n)
	return nil
}

// Replace replaces all written values at once. Later appends follow the new values.
func (l *Lines[T]) Replace(values []T) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.of.of.writeWhole(l.of.at(l.name), func(w io.Writer) error {
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
	again, err := appendLines[T](l.of, l.name)
	if err != nil {
		return err
	}
	err = l.file.Close()
	l.file, l.size = again.file, again.size
	return diskError("closing a series", err)
}

// Close closes the file.
func (l *Lines[T]) Close() error { return diskError("closing a series", l.file.Close()) }

// readLines reads a file of JSON lines; a missing file has none.
func readLines[T any](of *TrialFolder, name string) ([]T, error) {
	data, err := of.of.read(of.at(name), maxSeries)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a series: %w", err)
	}
	values, err := parseLines[T](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", of.File(name), err)
	}
	return values, nil
}

// maxLines bounds a series: a day of samples at ten a second has a fifth of it.
const maxLines = 4 << 20

// parseLines parses JSON lines. It leaves out a last line without its newline that does not parse:
// a crash tore it. Any other line that does not parse is an error with its number.
func parseLines[T any](data []byte) ([]T, error) {
	var values []T
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(values) == maxLines {
			return nil, fmt.Errorf("reading a series: it has more than %d lines", maxLines)
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
