package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// procFile is a file of procfs that stays open, so that a reading costs one or two system calls:
// under emulation finding the file costs more than reading it. The file may come and go with a
// module; an open descriptor does not keep the module.
type procFile struct {
	path string
	fd   int
	open bool
}

// read reads the whole file into the buffer. The error for a missing file, also one that has gone,
// is unix.ENOENT.
func (f *procFile) read(buffer []byte) ([]byte, error) {
	if f.open {
		text, err := f.readOpen(buffer)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EIO) {
			return text, err
		}
		// The module has gone: ENOENT of /proc/sys, EIO of /proc/net. It may have returned by now.
		if err := f.close(); err != nil {
			return nil, err
		}
	}
	// Without the runtime's poller, which procfs does not support.
	fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.path, err)
	}
	f.fd, f.open = fd, true
	return f.readOpen(buffer)
}

func (f *procFile) readOpen(buffer []byte) ([]byte, error) {
	n := 0
	for n < len(buffer) {
		m, err := unix.Pread(f.fd, buffer[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.path, err)
		}
		if m == 0 {
			return buffer[:n], nil
		}
		n += m
	}
	return nil, fmt.Errorf("read %s: more than %d bytes", f.path, len(buffer))
}

// number reads a file that holds one number.
func (f *procFile) number() (int64, error) {
	var buffer [32]byte
	text, err := f.read(buffer[:])
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", f.path, err)
	}
	return n, nil
}

func (f *procFile) close() error {
	if !f.open {
		return nil
	}
	f.open = false
	if err := unix.Close(f.fd); err != nil {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	return nil
}
