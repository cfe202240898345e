package samplers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// Memory is the memory of connection tracking, as the kernel accounts for it.
type Memory struct {
	// EntryBytes is the size of an entry with its padding: 256 on kernels since 6.1, 304 to 384
	// before.
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
