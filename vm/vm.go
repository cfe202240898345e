// Package vm defines the places where trials happen: labs and their nodes. A driver (vm/libvirt,
// ...) makes a [Lab]; the orchestrator asks it for nodes and talks to their agents.
package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/link"
)

// Lab makes the nodes of one trial after another, on links that lead nowhere else.
type Lab interface {
	// Boot starts a machine with a freshly booted kernel and returns when its agent has answered.
	Boot(ctx context.Context, machine Machine) (Node, error)
	// Join starts a load node with a network stack of its own.
	Join(ctx context.Context, load LoadNode) (Node, error)
	// About returns what the lab runs on.
	About() About
	// Close ends every node and removes every link.
	io.Closer
}

// Node runs an agent.
type Node interface {
	Name() string
	Agent() *agent.Client
	// Console returns the text that the node's kernel has printed so far; empty without a console.
	Console() string
	io.Closer
}

// Configurer is a DUT whose configuration takes more than its agent can do.
type Configurer interface {
	// Configure applies settings to the node's kernel, as [agent.Client.Configure] does.
	Configure(ctx context.Context, settings tuning.Settings) error
}

// Hosted is a node whose host reports the CPU time of the node.
type Hosted interface {
	Scheduled(ctx context.Context) (Scheduled, error)
}

// Scheduled holds the time that the host gave a machine's CPUs since the machine started, as sums.
type Scheduled struct {
	Ran    time.Duration
	Waited time.Duration // ready to run while other tasks held the host's CPUs
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
	// Linked is closed when the machine may join its links, where nodes of an earlier trial may
	// have the same addresses; nil: at once. Only the embedded lab of libvirt waits for it.
	Linked <-chan struct{}
}

// Port is a node's place on a link. The nodes of a link reach each other and nothing else.
type Port struct {
	Link      string
	Name      string   // of the node's card; empty: the kernel's
	Addresses []string // in CIDR notation
	Routes    []agent.Route
	Local     []string // networks of which the node takes every address for its own
}

// Network returns what the agent of a node sets up on its card with the hardware address mac.
func (p Port) Network(mac string) agent.Network {
	return agent.Network{
		MAC: mac, Name: p.Name, Addresses: p.Addresses, Routes: p.Routes, Local: p.Local,
	}
}

// LoadNode is a node that makes load; it needs no kernel of its own.
type LoadNode struct {
	Name string
	Port Port
}

// About describes the host and the programs of a lab, for the report.
type About struct {
	Driver          string
	Accelerator     string // kvm or tcg; empty where the lab emulates no machine
	AcceleratorNote string // why the accelerator is not kvm
	Box             string // Vagrant box of the DUT; empty without one
	BoxVersion      string
	QEMU            string // version
	Libvirt         string // version
	Host            *Host  // the DUT's host; nil: this one
}

// Host holds the known facts of another host.
type Host struct {
	CPU         string // model
	CPUs        int
	MemoryBytes int64
}

// RuntimeFolder returns the folder for the user's sockets and other transient files.
func RuntimeFolder() string {
	if folder := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(folder) {
		if info, err := os.Stat(folder); err == nil && info.IsDir() {
			return folder
		}
	}
	return os.TempDir()
}

// AwaitAgent returns a context for the start of a node's agent. Its cause names the limit.
func AwaitAgent(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	late := fmt.Errorf("its agent did not answer within %v", limit)
	return context.WithTimeoutCause(ctx, limit, late)
}

// LostError reports that the lab itself is gone, so that it can hold no further trial.
type LostError struct{ Reason error }

func (e *LostError) Error() string { return fmt.Sprintf("the lab is gone: %v", e.Reason) }
func (e *LostError) Unwrap() error { return e.Reason }

// BootError reports that a machine did not reach its agent, or lost it, with its console's end.
type BootError struct {
	Node    string
	Reason  error
	Console string
}

func (e *BootError) Error() string { return e.Brief() + consoleTail(e.Console) }

// Brief returns the error without the console.
func (e *BootError) Brief() string { return fmt.Sprintf("%s: %v", e.Node, e.Reason) }

func (e *BootError) Unwrap() error { return e.Reason }

// consoleTail returns the last 40 lines of a console, indented below an error message.
func consoleTail(console string) string {
	const lines = 40
	console = strings.TrimRight(strings.ReplaceAll(console, "\r", ""), "\n")
	if console == "" {
		return "\n  (its console is empty)"
	}
	all := strings.Split(console, "\n")
	all = all[max(0, len(all)-lines):]
	return "\n  its console ends with:\n  | " + strings.Join(all, "\n  | ")
}

// tailBytes bounds the text that a [Tail] keeps.
const tailBytes = 64 << 10

// Tail keeps the last bytes written to it. It is safe for concurrent use, and ready when zero.
type Tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = slices.Delete(t.kept, 0, max(0, len(t.kept)-tailBytes))
	return len(p), nil
}

// String returns the text without the white space around it.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}

// Pausable is a node that can be stopped and continued. A machine's CPUs stop, and its clocks with
// them: the caller must compare them anew. A load node stops only as a process: its kernel, the
// host's, continues to answer for it.
type Pausable interface {
	// Pause returns when the node stands still. Its agent does not answer until Resume.
	Pause(ctx context.Context) error
	// Resume does nothing to a node that runs.
	Resume(ctx context.Context) error
	Paused(ctx context.Context) (bool, error)
}

// Resettable is a machine that can be reset without warning, as by its reset button.
type Resettable interface {
	// Reset returns when the agent has answered after the boot and the links have their addresses.
	// Agent then returns a new client. All that the former agent set up is lost.
	Reset(ctx context.Context) error
}

// LinkFaulty is a lab whose links can be degraded.
type LinkFaulty interface {
	// SetLink replaces the conditions between a node and one of its links, by their names, and
	// returns those that it reads back. They end with ClearLink, the node or the lab.
	SetLink(ctx context.Context, node, name string, c link.Conditions) (link.Conditions, error)
	// ClearLink removes the link's conditions, if any, and returns what it reads back.
	ClearLink(ctx context.Context, node, name string) (link.Conditions, error)
}

// Mortal is a lab that may end before its nodes do, as with its daemon.
type Mortal interface {
	// Ended returns a channel that closes when the lab is gone.
	Ended() <-chan struct{}
}

// Counting is a lab that counts the frames between its nodes.
type Counting interface {
	// Counts reads the counters of the lab's ends of all links that it can read; see [link.Count].
	Counts() ([]link.Count, error)
}
