package samplers

import (
	"errors"
	"fmt"
	"path/filepath"

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

// tableReader reads the table's parameters from /proc/sys: it loads nothing and needs no privilege.
type tableReader struct{ count, max, buckets procFile }

func newTableReader(proc string) *tableReader {
	file := func(name string) procFile {
		return procFile{path: filepath.Join(proc, "sys/net/netfilter/nf_conntrack_"+name)}
	}
	return &tableReader{count: file("count"), max: file("max"), buckets: file("buckets")}
}

// read takes missing parameters as a sign that connection tracking is not loaded. Kernels before
// 5.7 hide them in a namespace of an ordinary user, where the sampler uses hiddenTable.
func (r *tableReader) read() (Table, error) {
	var t Table
	for _, p := range []struct {
		file  *procFile
		value *int64
	}{
		// The count first: the sample's time belongs to it.
		{&r.count, &t.Count}, {&r.max, &t.Max}, {&r.buckets, &t.Buckets},
	} {
		n, err := p.file.number()
		if errors.Is(err, unix.ENOENT) {
			return Table{}, nil // not loaded, or just being removed
		}
		if err != nil {
			return Table{}, err
		}
		*p.value = n
	}
	t.Loaded = true
	return t, nil
}

func (r *tableReader) close() error {
	return errors.Join(r.count.close(), r.max.close(), r.buckets.close())
}

var errHidden = errors.New("the size of the table is hidden: this kernel shows no /proc/sys/net/netfilter here, and nf_conntrack_netlink is not loaded")

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
