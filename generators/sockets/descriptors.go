package sockets

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// PlentyDescriptors is the usual fs.nr_open, which caps the limit of open files.
const PlentyDescriptors = 1 << 20

// RaiseDescriptors raises this process's limit of open files to needed where it may, and returns
// the resulting limit. It never lowers it.
func RaiseDescriptors(needed uint64) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if limit.Cur >= needed {
		return limit.Cur, nil
	}
	// To exceed the hard limit, the process needs CAP_SYS_RESOURCE in the initial user namespace.
	// The limit then becomes PlentyDescriptors, since other loads of this process need descriptors
	// too.
	for _, want := range []unix.Rlimit{
		{Cur: max(needed, PlentyDescriptors), Max: max(needed, PlentyDescriptors, limit.Max)},
		{Cur: needed, Max: max(needed, limit.Max)},
		{Cur: min(needed, limit.Max), Max: limit.Max},
	} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			return want.Cur, nil
		}
	}
	return limit.Cur, nil
}
