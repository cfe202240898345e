package netns

import (
	"context"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/link"
)

// SetLink implements [vm.LinkFaulty]. Loss, delay and the like need netem in this host's kernel.
func (l *Lab) SetLink(ctx context.Context, node, name string, c link.Conditions) (link.Conditions, error) {
	return l.ends.Set(ctx, node, name, c)
}

// ClearLink implements [vm.LinkFaulty].
func (l *Lab) ClearLink(ctx context.Context, node, name string) (link.Conditions, error) {
	return l.ends.Clear(ctx, node, name)
}

// loadNode is a node that can be paused. The DUT cannot: what is measured of it is the kernel, which is the
// host's and does not stop.
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
