package reports

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// File is a report written to a file, beside the printed one.
type File struct {
	Format, Path string
}

// ParseFiles parses reports given as FORMAT=FILE, such as junit=report.xml. It refuses what would
// otherwise fail only after hours of measurement: an unknown format, a missing folder, a file named
// twice.
func ParseFiles(texts []string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	for _, text := range texts {
		format, path, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return nil, fmt.Errorf("report %q: it is FORMAT=FILE, as junit=report.xml", text)
		}
		if err := runFormats.check(format); err != nil {
			return nil, fmt.Errorf("report %q: %w", text, err)
		}
		path = filepath.Clean(path)
		if seen[path] {
			return nil, fmt.Errorf("report %q: another report goes to that file", text)
		}
		seen[path] = true
		folder, err := os.Stat(filepath.Dir(path))
		if err == nil && !folder.IsDir() {
			err = fmt.Errorf("%s is not a folder", filepath.Dir(path))
		}
		if err == nil {
			err = writable(path)
		}
		if err != nil {
			return nil, fmt.Errorf("report %q: %w", text, err)
		}
		files = append(files, File{format, path})
	}
	return files, nil
}

// writable refuses a file that could not be written.
func writable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		path = filepath.Dir(path)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	}
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return nil
}

// WriteFiles writes the run into each file. It goes on after an error, so that a failed file does
// not cost the others.
func WriteFiles(files []File, run *results.Run, o Options) error {
	var failed error
	for _, f := range files {
		failed = errors.Join(failed, f.write(run, o))
	}
	return failed
}

func (f File) write(run *results.Run, o Options) error {
	file, err := os.Create(f.Path)
	if err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	// A file is no terminal.
	return errors.Join(Render(file, f.Format, run, Options{Wide: o.Wide, Series: o.Series}), file.Close())
}
