package netns

import (
	"context"

	"github.com/ctload/ctload/vm"
)

// loadNode is a node that can be paused. The DUT cannot: its kernel, which the trial measures, is
// the host's and does not stop.
type loadNode struct {
	*node
}

// Pause implements [vm.Pausable].
func (n *loadNode) Pause(context.Context) error { return n.child.Pause() }

// Resume implements [vm.Pausable].
func (n *loadNode) Resume(context.Context) error { return n.child.Resume() }

// Paused implements [vm.Pausable].
func (n *loadNode) Paused(context.Context) (bool, error) { return n.child.Paused() }

var (
	_ vm.LinkFaulty = (*Lab)(nil)
	_ vm.Pausable   = (*loadNode)(nil)
)
