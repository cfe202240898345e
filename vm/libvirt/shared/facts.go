package shared

import (
	"context"
	"errors"
	"fmt"
)

// Facts describes a running daemon and its host.
type Facts struct {
	Host          string
	Libvirt, QEMU string // versions
	CPUs          int
	MemoryBytes   int64  // available to a machine
	KVM           string // why KVM is not available; empty where a run will try it
	Pool          string // storage pool for kernels; empty: a run makes one
	Warning       string // what falsifies measurements there; empty: nothing
	Fix           string // for the warning
}

// Examine asks the daemon at a URI for its facts and changes nothing. The error is a
// *guest.MissingError.
func Examine(ctx context.Context, uri string) (f Facts, err error) {
	h, err := openHypervisor(ctx, uri, Options{})
	if err != nil {
		return Facts{}, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	f = Facts{Host: h.at.Name(), Libvirt: h.libvirt, QEMU: h.qemu, CPUs: h.threads(), MemoryBytes: h.memory, KVM: h.accel.Note}
	if h.pool != nil {
		f.Pool = h.pool.Name
	}
	if h.filtered(ctx) {
		f.Warning, f.Fix = "it tracks and filters what crosses its bridges, the load too", quietBridges
	}
	return f, nil
}

// String returns the facts in one line.
func (f Facts) String() string {
	pool := "none, a run makes one in " + imagesFolder
	if f.Pool != "" {
		pool = f.Pool
	}
	return fmt.Sprintf("libvirt %s, QEMU %s, %d CPUs, %d MiB for machines, storage pool: %s", f.Libvirt, f.QEMU, f.CPUs, f.MemoryBytes>>20, pool)
}
