package vm

import (
	"context"

	"github.com/ctload/ctload/internal/link"
)

// Pausable is a node that can be stopped and let go on.
//
// A machine's CPUs stop and its own clocks with them: afterwards its monotonic clock is behind by the
// length of the pause, so that it must be compared anew, and its samples show no gap but on the host's
// clock. A load node is only stopped as a process: its kernel, the host's, goes on to answer for it.
type Pausable interface {
	// Pause returns when the node stands still. Its agent does not answer until Resume.
	Pause(ctx context.Context) error
	// Resume is harmless for a node that runs.
	Resume(ctx context.Context) error
	Paused(ctx context.Context) (bool, error)
}

// Resettable is a machine that can be reset without warning, as by its button.
type Resettable interface {
	// Reset resets the machine and returns when its agent has answered after the new boot and its links
	// have their addresses. Agent then returns a new client, and the one of before is lost. Nothing else is
	// as it was: configuration, responders, sampling and faults went with the kernel.
	Reset(ctx context.Context) error
}

// LinkFaulty is a lab whose links can be made worse.
type LinkFaulty interface {
	// SetLink sets what lies between a node and one of its links, by their names, in the place of what
	// was set before, and returns it as it reads back. It ends with ClearLink, and with the node or the
	// lab, however they end.
	SetLink(ctx context.Context, node, name string, conditions link.Conditions) (link.Conditions, error)
	// ClearLink puts the link in order, and returns what reads back. It is harmless for one that is.
	ClearLink(ctx context.Context, node, name string) (link.Conditions, error)
}
