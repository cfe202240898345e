// Package embedded makes labs of virtual machines on a private libvirt daemon inside the sandbox.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// Options says where a lab keeps its files and which accelerator it uses.
type Options struct {
	Runtime     string // folder for sockets, with a short path, in memory
	Cache       string // folder that may outlive the lab
	Accelerator string // KVM or TCG; empty: KVM where a guest boots under it
	Tell        func(note string)
}

// Lab is the embedded lab: a private daemon, a bridge, machines on taps and load nodes on veth
// pairs, all in the namespaces of the caller (see vm/sandbox).
type Lab struct {
	options Options
	daemon  *Daemon
	virt    *libvirt.Connection
	bridges map[string]*link.Bridge // by the name of the link
	accel   libvirt.Accelerator
	about   vm.About
	serial  int // numbers the machines, so that names never repeat

	link.Ends // of its nodes' links
}

// Open starts the daemon. It needs the capabilities and the namespaces of the sandbox.
func Open(ctx context.Context, options Options) (_ *Lab, err error) {
	l := &Lab{options: options, bridges: map[string]*link.Bridge{}, accel: libvirt.ChooseAccelerator(options.Accelerator, options.Cache)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.daemon, err = startDaemon(ctx, filepath.Join(options.Runtime, "libvirt"), options.Cache); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	at, err := libvirt.ParseEndpoint("qemu:///session?socket=" + l.daemon.Socket)
	if err != nil {
		return nil, err
	}
	if l.virt, err = libvirt.Connect(limited, at); err != nil {
		return nil, err
	}
	qemu, version, err := l.virt.Versions(limited)
	if err != nil {
		return nil, err
	}
	l.about = vm.About{Driver: "libvirt", QEMU: qemu, Libvirt: version}
	return l, nil
}

// link returns the bridge of that name. The first call makes it.
func (l *Lab) link(name string) (*link.Bridge, error) {
	if bridge, ok := l.bridges[name]; ok {
		return bridge, nil
	}
	bridge, err := link.NewBridge(fmt.Sprintf("ctload%d", len(l.bridges)))
	if err != nil {
		return nil, err
	}
	l.bridges[name] = bridge
	return bridge, nil
}

// About returns what the lab runs on. The accelerator is certain once a machine has booted.
func (l *Lab) About() vm.About {
	about := l.about
	about.Accelerator, about.AcceleratorNote = l.accel.Name, l.accel.Note
	return about
}

// Close ends the lab: its links, its connection and its daemon.
func (l *Lab) Close() error {
	var errs []error
	for _, bridge := range l.bridges {
		errs = append(errs, bridge.Close())
	}
	if l.virt != nil {
		ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
		defer cancel()
		errs = append(errs, l.virt.Close(ctx))
	}
	if l.daemon != nil {
		errs = append(errs, l.daemon.Close())
	}
	return errors.Join(errs...)
}

// machine is a booted virtual machine.
type machine struct {
	name    string
	lab     *Lab
	serial  int
	ports   []vm.Port
	cards   []libvirt.Card
	channel string // path of the socket of the agent's port
	console string // path
	limit   time.Duration
	started bool
	leave   []func() error // takes it off the lab's links

	description libvirt.Domain // starts the machine, at first and after a reset

	mu       sync.Mutex
	domain   golibvirt.Domain
	client   *agent.Client // a new one after each reset
	answered time.Time     // time of the first answer after the boot or the reset
}

// Boot starts a machine and waits for its agent. The error is a *vm.BootError, with the end of the
// console, when the machine started but its agent did not answer in time.
func (l *Lab) Boot(ctx context.Context, spec vm.Machine) (vm.Node, error) {
	return l.Accelerated(ctx, func(accelerator string, proven bool) (vm.Node, error) {
		return l.boot(ctx, spec, accelerator, libvirt.LimitOf(accelerator, proven))
	})
}

func (l *Lab) boot(ctx context.Context, spec vm.Machine, accelerator string, limit time.Duration) (_ vm.Node, err error) {
	l.serial++
	id := fmt.Sprintf("%s%d", spec.Name, l.serial)
	m := &machine{
		name: spec.Name, lab: l, serial: l.serial, ports: spec.Ports, limit: limit,
		channel: filepath.Join(l.options.Runtime, id+".sock"), console: spec.ConsoleFile,
	}
	defer func() {
		if err == nil {
			return
		}
		if closing := m.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
	}()
	if err := m.addCards(spec.Ports); err != nil {
		return nil, err
	}
	m.description = libvirt.Domain{
		Name: "ctload-" + id, Accelerator: accelerator, Machine: spec,
		Cards: m.cards, Channel: m.channel,
	}
	if err := m.boot(ctx); err != nil {
		return nil, err
	}
	if spec.Linked != nil {
		select {
		case <-spec.Linked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err := m.join(ctx); err != nil {
		return nil, err
	}
	for i, port := range spec.Ports {
		m.leave = append(m.leave, l.Ends.Add(link.End{
			Node: spec.Name, Link: port.Link, Name: m.cards[i].Tap, Bridge: l.bridges[port.Link],
			Card: &libvirt.Plugged{Machine: m, Card: m.cards[i]},
		}))
	}
	return m, nil
}

// Start starts the machine and returns when its agent answers and its cards have their addresses.
func (m *machine) Start(ctx context.Context) error {
	if err := m.boot(ctx); err != nil {
		return err
	}
	return m.join(ctx)
}

// boot starts the machine and returns when its agent has answered.
func (m *machine) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("its agent did not answer within %v", m.limit))
	defer cancel()
	xml, err := m.description.XML()
	if err != nil {
		return err
	}
	m.description.Appending = true // the console file keeps earlier text on another start
	running, err := m.lab.virt.Create(ctx, xml, 0)
	if err != nil {
		return m.lab.explain("start machine "+m.name, err)
	}
	m.mu.Lock()
	m.domain, m.started = running, true
	m.mu.Unlock()
	return m.reach(ctx)
}

// running returns libvirt's handle of the machine.
func (m *machine) running() golibvirt.Domain {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.domain
}

// reach connects to the machine's agent and returns when the agent answers.
func (m *machine) reach(ctx context.Context) error {
	stream, err := (&net.Dialer{}).DialContext(ctx, "unix", m.channel)
	if err != nil {
		return &vm.BootError{Node: m.name, Reason: fmt.Errorf("connect to its agent's port: %w", err), Console: m.Console()}
	}
	client, err := agent.NewClient(m.name, stream)
	if err != nil {
		return errors.Join(err, stream.Close())
	}
	m.mu.Lock()
	m.client = client
	m.mu.Unlock()
	if _, err := client.Hello(ctx); err != nil {
		err = errors.New("the machine ended before its agent answered")
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &vm.BootError{Node: m.name, Reason: err, Console: m.Console()}
	}
	m.mu.Lock()
	m.answered = time.Now()
	m.mu.Unlock()
	return nil
}

// join puts the machine's taps on the lab's bridges and gives its cards their addresses.
func (m *machine) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	for i, port := range m.ports {
		if err := m.lab.bridges[port.Link].Join(m.cards[i].Tap); err != nil {
			return err
		}
		network := agent.Network{MAC: m.cards[i].MAC, Addresses: port.Addresses, Routes: port.Routes, Local: port.Local}
		if err := m.Agent().Network(ctx, network); err != nil {
			return err
		}
	}
	return nil
}

// addCards makes a tap for each port. It remembers each tap, also when a later one fails.
func (m *machine) addCards(ports []vm.Port) error {
	for i, port := range ports {
		if _, err := m.lab.link(port.Link); err != nil {
			return err
		}
		tap := fmt.Sprintf("tap%d.%d", m.serial, i)
		if err := link.AddTap(tap); err != nil {
			return err
		}
		m.cards = append(m.cards, libvirt.Card{Tap: tap, MAC: macAddress(m.serial, i)})
	}
	return nil
}

// explain distinguishes a daemon that is gone (*vm.LostError) from one that refused.
func (l *Lab) explain(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	select {
	case <-l.daemon.Exited():
		return &vm.LostError{Reason: fmt.Errorf("the libvirt daemon has ended: %w", err)}
	default:
		return err
	}
}

func (m *machine) Name() string { return m.name }

// Answered returns the time of the agent's first answer, before its links were brought up.
func (m *machine) Answered() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answered
}

func (m *machine) Agent() *agent.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

func (m *machine) Console() string {
	text, err := os.ReadFile(m.console)
	if err != nil {
		return ""
	}
	return string(text)
}

// Close ends the machine at once.
func (m *machine) Close() error {
	var errs []error
	if client := m.Agent(); client != nil {
		errs = append(errs, client.Close())
	}
	if m.started {
		ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
		defer cancel()
		if err := m.lab.virt.Destroy(ctx, m.running()); err != nil {
			errs = append(errs, m.lab.explain("destroy machine "+m.name, err))
		}
	}
	for _, leave := range m.leave {
		errs = append(errs, leave())
	}
	for _, c := range m.cards {
		errs = append(errs, link.Remove(c.Tap))
	}
	return errors.Join(errs...)
}

// loadNode is an agent in a network namespace of its own.
type loadNode struct {
	name   string
	leave  func() error // takes it off the lab's links
	client *agent.Child
	veth   string // the lab's end of its link
}

// Join starts a load node beside the machines.
func (l *Lab) Join(ctx context.Context, spec vm.LoadNode) (_ vm.Node, err error) {
	l.serial++
	child, err := agent.StartChild(spec.Name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, child.Close())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	bridge, err := l.link(spec.Port.Link)
	if err != nil {
		return nil, err
	}
	veth := fmt.Sprintf("veth%d", l.serial)
	if err := bridge.AddVeth(veth, "eth0", child.Pid()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, link.Remove(veth))
		}
	}()
	if err := child.Network(ctx, agent.Network{Addresses: spec.Port.Addresses, Routes: spec.Port.Routes, Local: spec.Port.Local}); err != nil {
		return nil, err
	}
	leave := l.Ends.Add(link.End{Node: spec.Name, Link: spec.Port.Link, Name: veth, Bridge: bridge})
	return &loadNode{name: spec.Name, client: child, veth: veth, leave: leave}, nil
}

func (n *loadNode) Name() string         { return n.name }
func (n *loadNode) Agent() *agent.Client { return n.client.Client }
func (n *loadNode) Console() string      { return "" }

// Close ends the node's link and then the agent's process. It first removes the link by name: the
// kernel removes a network namespace later, and a node with a link would answer for its address in
// the next trial until then, and close the connections of that trial.
func (n *loadNode) Close() error {
	return errors.Join(n.leave(), link.Remove(n.veth), n.client.Close())
}

// macAddress returns the address of a machine's nth card, in QEMU's range for local use.
func macAddress(machine, n int) string {
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", machine>>8&0xff, machine&0xff, n&0xff)
}

var (
	_ vm.Lab    = (*Lab)(nil)
	_ vm.Node   = (*machine)(nil)
	_ io.Closer = (*loadNode)(nil)
)
