package results

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// These bound what is read from a run folder, in bytes: a series (a day of samples takes half of
// it), and any other file.
const (
	maxSeries = 512 << 20
	maxFile   = 64 << 20
)

// read reads a regular file of the folder, of at most limit bytes.
func (f *Folder) read(name string, limit int64) ([]byte, error) {
	file, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d MiB", filepath.Join(f.path, name), limit>>20)
	}
	return data, err
}

// open opens a regular file of the folder for reading.
func (f *Folder) open(name string) (*os.File, error) {
	// Without O_NONBLOCK a FIFO would hang.
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", filepath.Join(f.path, name))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// copyFile copies a regular file of another run, under the same name.
func (f *Folder) copyFile(from *Folder, name string) error {
	file, err := from.open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return f.writeWhole(name, func(w io.Writer) error {
		n, err := io.Copy(w, io.LimitReader(file, maxSeries+1))
		if err == nil && n > maxSeries {
			err = fmt.Errorf("%s is larger than %d MiB", file.Name(), maxSeries>>20)
		}
		return err
	})
}

func (f *Folder) writeBytes(name string, data []byte) error {
	return f.writeWhole(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeWhole writes a file under another name in the same folder and renames it into place.
func (f *Folder) writeWhole(name string, write func(io.Writer) error) (err error) {
	what := "writing " + filepath.Join(f.path, name)
	draft := path.Join(path.Dir(name), "."+path.Base(name)+"."+rand.Text())
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := f.root.OpenFile(draft, flags, f.mode&0o666)
	if err != nil {
		return diskError(what, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.root.Remove(draft))
		}
	}()
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return diskError(what, err)
	}
	return diskError(what, f.root.Rename(draft, name))
}

// diskError reports a full disk plainly; the bare error hides it behind a file's name.
func diskError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: the disk is full; what was measured before is kept: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
