// Package vm is the places where trials happen: labs and their nodes. A driver (vm/libvirt, ...)
// makes a [Lab]; the orchestrator asks it for nodes and talks to their agents.
package vm

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/tuning"
)

// Lab makes the nodes of one trial after another, on links that lead nowhere else.
type Lab interface {
	// Boot starts a machine with a freshly booted kernel and returns when its agent has answered.
	Boot(ctx context.Context, machine Machine) (Node, error)
	// Join starts a load node with a network stack of its own.
	Join(ctx context.Context, load LoadNode) (Node, error)
	// About says what the lab runs on.
	About() About
	// Close ends every node and removes every link.
	io.Closer
}

// Node is something that runs an agent.
type Node interface {
	Name() string
	Agent() *agent.Client
	// Console is the text that the node's kernel has printed so far; empty where there is none.
	Console() string
	io.Closer
}

// Configurer is a DUT whose configuration takes more than its agent can do.
type Configurer interface {
	// Configure applies settings to the node's kernel, as [agent.Client.Configure] does.
	Configure(ctx context.Context, settings tuning.Settings) error
}

// Hosted is a node whose host tells how the node's CPUs fare there.
type Hosted interface {
	Scheduled(ctx context.Context) (Scheduled, error)
}

// Scheduled is what the CPUs of a machine got of their host since it was started, all added up.
type Scheduled struct {
	Ran    time.Duration
	Waited time.Duration // ready to run, while the host's CPUs were busy with others
}

// Machine is a node with a kernel of its own.
type Machine struct {
	Name        string
	Kernel      string // path of the image
	Initramfs   string // path
	VCPUs       int
	MemoryBytes int64
	Ports       []Port
	ConsoleFile string // path of a file that receives the serial console
	// Linked is closed when the machine may join its links; nil: at once. Until then Boot does not return, and
	// nodes of an earlier trial may have the same addresses. Only the embedded lab of libvirt heeds it.
	Linked <-chan struct{}
}

// Port is a node's place on a link. Nodes on the link of the same name reach each other, and nothing
// else.
type Port struct {
	Link      string
	Addresses []string // in CIDR notation
	Routes    []agent.Route
	Local     []string // networks whose every address the node takes for its own
}

// LoadNode is a node that makes load; it needs no kernel of its own.
type LoadNode struct {
	Name string
	Port Port
}

// About is what a lab runs on, for the report.
type About struct {
	Driver          string
	Accelerator     string // kvm or tcg; none where no machine is emulated
	AcceleratorNote string // why it is not kvm
	Box             string // of the DUT; empty: it is none of a box
	BoxVersion      string
	QEMU            string // version
	Libvirt         string // version
	Host            *Host  // that the DUT is on; nil: this one
}

// Host is another host than this one, as far as is known of it.
type Host struct {
	CPU         string // model
	CPUs        int
	MemoryBytes int64
}

// LostError says that the lab itself is gone, so that no further trial can be made in it.
type LostError struct {
	Reason error
}

func (e *LostError) Error() string { return fmt.Sprintf("the lab is gone: %v", e.Reason) }
func (e *LostError) Unwrap() error { return e.Reason }

// BootError says that a machine did not reach its agent, or lost it, with the end of its console.
type BootError struct {
	Node    string
	Reason  error
	Console string
}

func (e *BootError) Error() string { return e.Brief() + consoleTail(e.Console) }

// Brief is the error without the console.
func (e *BootError) Brief() string { return fmt.Sprintf("%s: %v", e.Node, e.Reason) }

func (e *BootError) Unwrap() error { return e.Reason }

// consoleTail is the last lines of a console, indented below an error message.
func consoleTail(console string) string {
	const lines = 40
	console = strings.TrimRight(strings.ReplaceAll(console, "\r", ""), "\n")
	if console == "" {
		return "\n  (its console is empty)"
	}
	all := strings.Split(console, "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "\n  its console ends with:\n  | " + strings.Join(all, "\n  | ")
}
