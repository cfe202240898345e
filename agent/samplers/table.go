package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// Table is the size and the fill of the connection-tracking table, read without walking it. Count
// belongs to the network namespace; max and buckets are the machine's.
type Table struct {
	Loaded  bool  `json:"loaded"` // whether connection tracking is in the kernel; all else is 0 when not
	Count   int64 `json:"count"`  // with the expired entries that no one has freed yet
	Max     int64 `json:"max"`    // 0 is unlimited before Linux 6.19
	Buckets int64 `json:"buckets"`
}

// readTable reads the table's parameters from /proc/sys, which loads nothing and needs no privilege.
// That they are missing means that connection tracking is not loaded; kernels before 5.7 hide them in
// a namespace of an ordinary user, where the sampler falls back.
func readTable(proc string) (Table, error) {
	var t Table
	for _, p := range []struct {
		name  string
		value *int64
	}{
		// The count first: it is the figure that the sample's time stands for.
		{"nf_conntrack_count", &t.Count}, {"nf_conntrack_max", &t.Max}, {"nf_conntrack_buckets", &t.Buckets},
	} {
		n, err := readNumber(filepath.Join(proc, "sys/net/netfilter", p.name))
		if errors.Is(err, unix.ENOENT) {
			return Table{}, nil // not loaded, or being removed this very moment
		}
		if err != nil {
			return Table{}, err
		}
		*p.value = n
	}
	t.Loaded = true
	return t, nil
}

// hiddenTable asks ctnetlink for the fill and the limit (Linux 4.18 for the limit, CAP_NET_ADMIN), where
// the parameters are hidden. The size of the hash stays unknown.
func hiddenTable() (t Table, err error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return t, fmt.Errorf("open ctnetlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	global, err := conn.StatsGlobal()
	if err != nil {
		return t, fmt.Errorf("ask ctnetlink for the size of the table: %w", err)
	}
	return Table{Loaded: true, Count: int64(global.Entries), Max: int64(global.MaxEntries)}, nil
}

// readNumber reads a file that holds one number, with three system calls and no more.
func readNumber(path string) (int64, error) {
	var buffer [32]byte
	text, err := readSmall(path, buffer[:])
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// readSmall reads a file of procfs that fits the buffer, past the run-time's poller, which procfs does
// not know and which costs more than the read.
func readSmall(path string, buffer []byte) (text []byte, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	n := 0
	for n < len(buffer) {
		m, err := unix.Read(fd, buffer[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if m == 0 {
			return buffer[:n], nil
		}
		n += m
	}
	return nil, fmt.Errorf("read %s: more than %d bytes", path, len(buffer))
}
