package shared

import (
	"context"
	"errors"
	"fmt"
)

// Facts are what a daemon that exists offers.
type Facts struct {
	Host          string
	Libvirt, QEMU string // versions
	CPUs          int
	MemoryBytes   int64  // that a machine could have
	KVM           string // why there is none; empty where a run will try it
	Pool          string // where kernels go; empty: a run makes one
	Warning       string // what falsifies measurements there, or empty
	Fix           string // for the warning
}

// Examine asks the daemon at a URI. It makes nothing. The error is a *guest.MissingError.
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

// String is a line of it.
func (f Facts) String() string {
	pool := "none, a run makes one in " + imagesFolder
	if f.Pool != "" {
		pool = f.Pool
	}
	return fmt.Sprintf("libvirt %s, QEMU %s, %d CPUs, %d MiB for machines, storage pool: %s", f.Libvirt, f.QEMU, f.CPUs, f.MemoryBytes>>20, pool)
}
