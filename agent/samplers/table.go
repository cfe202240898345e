package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// Table is the size and the fill of the connection-tracking table, read without walking it. Count
// belongs to the network namespace; max and buckets are the machine's.
type Table struct {
	Loaded  bool  `json:"loaded"` // the kernel has connection tracking; otherwise all else is 0
	Count   int64 `json:"count"`  // with expired entries that are not freed yet
	Max     int64 `json:"max"`    // 0 is unlimited before Linux 6.19
	Buckets int64 `json:"buckets"`
}

// tableFiles returns the table's parameters in /proc/sys: reading them loads nothing and needs no
// privilege. The count comes first: the sample's time belongs to it.
func tableFiles(proc string) procFiles {
	return newProcFiles(filepath.Join(proc, "sys/net/netfilter"),
		"nf_conntrack_count", "nf_conntrack_max", "nf_conntrack_buckets")
}

// readTable takes missing parameters as a sign that connection tracking is not loaded. Kernels
// before 5.7 hide them in a namespace of an ordinary user, where the sampler uses hiddenTable.
func readTable(files procFiles) (Table, error) {
	t := Table{Loaded: true}
	for i, value := range []*int64{&t.Count, &t.Max, &t.Buckets} {
		var err error
		if *value, err = files[i].number(); errors.Is(err, unix.ENOENT) {
			return Table{}, nil // not loaded, or just being removed
		} else if err != nil {
			return Table{}, err
		}
	}
	return t, nil
}

// hiddenTable asks ctnetlink for the fill and the limit (Linux 4.18 for the limit, CAP_NET_ADMIN),
// where the parameters are hidden. The size of the hash stays unknown.
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

// procFile is a file of procfs that stays open, so that a reading costs one or two system calls:
// under emulation finding the file costs more than reading it. The file may come and go with a
// module; an open descriptor does not keep the module.
type procFile struct {
	path string
	fd   int
	open bool
}

// procFiles are files of one folder.
type procFiles []procFile

func newProcFiles(folder string, names ...string) procFiles {
	files := make(procFiles, len(names))
	for i, name := range names {
		files[i].path = filepath.Join(folder, name)
	}
	return files
}

func (f procFiles) close() error {
	var errs []error
	for i := range f {
		errs = append(errs, f[i].close())
	}
	return errors.Join(errs...)
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

// Memory is the memory of connection tracking, as the kernel accounts for it.
type Memory struct {
	// EntryBytes is the size of an entry with its padding: 256 since 6.1, 304 to 384 before.
	EntryBytes int64 `json:"entry_bytes"`
	// Entries counts allocated entries of all network namespaces, with those that a CPU keeps in
	// stock.
	Entries   int64 `json:"entries"`
	SlabBytes int64 `json:"slab_bytes"` // the pages that hold them
	HashBytes int64 `json:"hash_bytes"` // 8 bytes for each bucket
	// Extensions (accounting, NAT, timestamps, labels) are further allocations of 128 bytes or more
	// for each entry that has any, in the kernel's general caches, which do not count them
	// separately. They show in System.SlabUnreclaimable.
	Source string `json:"source"` // "/proc/slabinfo"
}

// ErrNoSlab means that this kernel shows no slab cache of connection tracking: it is not loaded, or
// the kernel was built without the listing.
var ErrNoSlab = errors.New("no slab cache named nf_conntrack")

// ReadMemory asks the slab allocator. Call it before and after the load, since the listing stops
// all creation of caches and walks every cache's partial slabs. /proc/slabinfo needs root; the
// kernel never merges the cache with others, since it is typesafe by RCU. Kernels before 4.7 have
// one for each network namespace; ReadMemory adds them up.
func (s *Sampler) ReadMemory() (Memory, error) {
	proc, err := procfs.NewFS(s.options.Proc)
	if err != nil {
		return Memory{}, fmt.Errorf("open procfs: %w", err)
	}
	info, err := proc.SlabInfo()
	if errors.Is(err, fs.ErrNotExist) {
		return Memory{}, fmt.Errorf("%w: this kernel has no /proc/slabinfo", ErrNoSlab)
	}
	if err != nil {
		return Memory{}, fmt.Errorf("read the slab caches: %w", err)
	}
	m := Memory{Source: "/proc/slabinfo"}
	for _, slab := range info.Slabs {
		if !isEntryCache(slab.Name) {
			continue
		}
		m.EntryBytes = slab.ObjSize
		m.Entries += slab.ObjActive
		m.SlabBytes += slab.SlabNum * slab.PagesPerSlab * int64(os.Getpagesize())
	}
	if m.EntryBytes == 0 {
		return Memory{}, ErrNoSlab
	}
	table, err := s.Table()
	if err != nil {
		return m, err
	}
	m.HashBytes = table.Buckets * strconv.IntSize / 8
	return m, nil
}

// isEntryCache accepts nf_conntrack, and nf_conntrack_1 or nf_conntrack_ffffffff81234567 of old
// kernels, but not nf_conntrack_expect.
func isEntryCache(name string) bool {
	rest, ok := strings.CutPrefix(name, "nf_conntrack")
	if !ok || rest == "" {
		return ok
	}
	_, err := strconv.ParseUint(strings.TrimPrefix(rest, "_"), 16, 64)
	return err == nil
}
