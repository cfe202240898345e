package labs

import (
	"context"
	"io"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
)

// prepareEmbedded checks what the embedded lab needs: namespaces, a daemon, QEMU, tools, and the
// kernels, which it fetches where they are not cached.
func prepareEmbedded(ctx context.Context, o Order) error {
	if err := sandbox.Check(ctx); err != nil {
		return err
	}
	if err := embedded.CheckHost(); err != nil {
		return err
	}
	return prepareKernels(ctx, o)
}

// prepareKernels fetches the kernels of an order, and checks that an initramfs can be made for
// each.
func prepareKernels(ctx context.Context, o Order) error {
	kernels, err := o.fetchKernels(ctx)
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

// openEmbedded starts the lab's own libvirt daemon in the sandbox that this process is in.
func openEmbedded(ctx context.Context, s *Site) (vm.Lab, error) {
	return embedded.Open(ctx, s.embedded())
}

// embedded returns the options of an embedded lab.
func (s *Site) embedded() embedded.Options {
	return embedded.Options{
		Runtime: s.Folder, Cache: s.Cache, Accelerator: s.Choice.Accelerator, Tell: s.Note,
	}
}
