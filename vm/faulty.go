package vm

import (
	"context"

	"github.com/ctload/ctload/internal/link"
)

// Pausable is a node that can be stopped and continued.
//
// A machine's CPUs stop, and its own clocks with them: afterwards its monotonic clock is behind by
// the length of the pause, so the caller must compare it anew, and its samples show the gap only on
// the host's clock. A load node stops only as a process: its kernel, the host's, continues to
// answer for it.
type Pausable interface {
	// Pause returns when the node stands still. Its agent does not answer until Resume.
	Pause(ctx context.Context) error
	// Resume does nothing to a node that runs.
	Resume(ctx context.Context) error
	Paused(ctx context.Context) (bool, error)
}

// Resettable is a machine that can be reset without warning, as by its reset button.
type Resettable interface {
	// Reset resets the machine and returns when its agent has answered after the boot and its links
	// have their addresses. Agent then returns a new client; the former one is lost. Configuration,
	// responders, sampling and faults are lost with the kernel.
	Reset(ctx context.Context) error
}

// LinkFaulty is a lab whose links can be degraded.
type LinkFaulty interface {
	// SetLink sets the conditions between a node and one of its links, by their names. It replaces
	// earlier conditions and returns those that it reads back. They end with ClearLink, or when the
	// node or the lab ends, in whatever way.
	SetLink(ctx context.Context, node, name string, conditions link.Conditions) (link.Conditions, error)
	// ClearLink removes the link's conditions and returns what it reads back. It does nothing to a
	// link without conditions.
	ClearLink(ctx context.Context, node, name string) (link.Conditions, error)
}
