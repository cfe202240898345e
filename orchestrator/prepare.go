package orchestrator

import (
	"context"
	"io"

	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// Prepare does outside the sandbox what cannot be done inside, and finds out before anything starts
// whether the host has what a run needs: namespaces, a daemon, QEMU, tools, and the kernels, which it
// fetches where they are not cached.
func Prepare(ctx context.Context, plan *Plan, store *guest.Store) error {
	if err := sandbox.Check(ctx); err != nil {
		return err
	}
	if err := libvirt.CheckHost(); err != nil {
		return err
	}
	kernels, err := FetchKernels(ctx, plan, store)
	if err != nil {
		return err
	}
	for _, kernel := range kernels {
		if err := guest.Build(io.Discard, guest.Spec{Init: self, Kernel: kernel}); err != nil {
			return err
		}
	}
	return nil
}
