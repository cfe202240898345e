package shared

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// remoteMachine is a machine on a daemon that ctload did not start.
type remoteMachine struct {
	name        string
	lab         *Lab
	host        *hypervisor
	ports       []vm.Port
	description libvirt.Domain // starts the machine, at first and after a reset
	entry       journal.Entry  // of its domain; empty until recorded
	limit       time.Duration  // of a start
	console     *console
	leave       []func() error // takes it off the lab's links

	mu     sync.Mutex
	domain golibvirt.Domain
	client *agent.Client // a new one after each reset, like the stream
	text   io.Closer     // of the console
}

// boot starts a machine and waits for its agent.
func (l *Lab) boot(ctx context.Context, h *hypervisor, spec vm.Machine, serial int, accelerator string, limit time.Duration) (_ vm.Node, err error) {
	m := &remoteMachine{name: spec.Name, lab: l, host: h, ports: spec.Ports, limit: limit}
	defer func() {
		if err != nil {
			err = joinClose(err, m.Close())
		}
	}()
	if m.console, err = newConsole(spec.ConsoleFile); err != nil {
		return nil, err
	}
	if m.description, err = l.describe(ctx, h, spec, serial, accelerator); err != nil {
		return nil, err
	}
	if m.entry, err = h.record(journal.Domain, m.description.Name, newUUID()); err != nil {
		return nil, err
	}
	m.description.UUID = m.entry.Detail
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("its agent did not answer within %v", limit))
	defer cancel()
	if err := m.Start(ctx); err != nil {
		if missing, ok := errors.AsType[*guest.MissingError](err); ok && len(l.options.Networks) > 0 {
			missing.Fix = "--network with a bridge or a libvirt network that every host has"
		}
		return nil, err
	}
	for i, port := range spec.Ports {
		m.leave = append(m.leave, l.Ends.Add(link.End{Node: spec.Name, Link: port.Link, Card: &libvirt.Plugged{Machine: m, Card: m.description.Cards[i]}}))
	}
	return m, nil
}

// Start starts the machine and returns when its agent has answered and its cards have their
// addresses. libvirt creates the machine paused, so that the console misses nothing.
func (m *remoteMachine) Start(ctx context.Context) error {
	xml, err := m.description.XML()
	if err != nil {
		return err
	}
	domain, err := m.host.virt.Create(ctx, xml, golibvirt.DomainStartPaused)
	if err != nil {
		return m.host.refused(err, "start machine "+m.name)
	}
	m.mu.Lock()
	m.domain = domain
	m.mu.Unlock()
	if err := m.converse(ctx); err != nil {
		if lost := m.host.lost("start machine "+m.name, err); lost != nil {
			return lost
		}
		return &vm.BootError{Node: m.name, Reason: err, Console: m.Console()}
	}
	for i, port := range m.ports {
		network := agent.Network{MAC: m.description.Cards[i].MAC, Addresses: port.Addresses, Routes: port.Routes, Local: port.Local}
		if err := m.Agent().Network(ctx, network); err != nil {
			return err
		}
	}
	return nil
}

// running returns libvirt's handle of the machine.
func (m *remoteMachine) running() golibvirt.Domain {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.domain
}

// describe brings everything that a machine needs to its host.
func (l *Lab) describe(ctx context.Context, h *hypervisor, spec vm.Machine, serial int, accelerator string) (libvirt.Domain, error) {
	d := libvirt.Domain{
		Name: l.options.objectName(fmt.Sprintf("%s%s-%d", l.lane, spec.Name, serial)), Run: l.options.Run,
		Kind: h.kind, Accelerator: accelerator, CPUs: l.cpus,
	}
	var err error
	if spec.Kernel, err = h.image(ctx, spec.Kernel); err != nil {
		return d, err
	}
	if spec.Initramfs, err = h.image(ctx, spec.Initramfs); err != nil {
		return d, err
	}
	spec.ConsoleFile = "" // the path is on this host and not on the daemon's
	d.Machine = spec
	for i, port := range spec.Ports {
		card, err := l.links.card(ctx, h, l.lane+port.Link)
		if err != nil {
			return d, err
		}
		card.MAC = l.mac(serial, i)
		d.Cards = append(d.Cards, card)
	}
	return d, nil
}

// mac returns the hardware address of a machine's nth card, in QEMU's range for local use. The ids
// of two runs that share a bridge select one of 65,536 ranges each.
func (l *Lab) mac(machine, n int) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(l.options.Run + l.lane))
	place := sum.Sum32()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", place>>8&0xff, place&0xff, machine&0xff, n&0xf|machine>>8&0xf<<4)
}

// converse resumes the machine and waits until its agent has answered.
func (m *remoteMachine) converse(ctx context.Context) error {
	domain := m.running()
	text, err := m.host.at.OpenConsole(ctx, domain)
	if err != nil {
		return err
	}
	m.mu.Lock()
	before := m.text
	m.text = text
	m.mu.Unlock()
	if before != nil {
		_ = before.Close() // it has ended with the former domain
	}
	go func() { _, _ = io.Copy(m.console, text) }() // ends with the stream
	port, err := m.host.at.OpenChannel(ctx, domain, agent.PortName)
	if err != nil {
		return err
	}
	client, err := agent.NewClient(m.name, port)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	m.mu.Lock()
	m.client = client
	m.mu.Unlock()
	if err := m.host.virt.Do(ctx, func() error { return m.host.virt.Virt.DomainResume(domain) }); err != nil {
		return fmt.Errorf("let it go: %w", err)
	}
	if _, err := client.Hello(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errors.New("the machine ended before its agent answered")
	}
	return nil
}

func (m *remoteMachine) Name() string    { return m.name }
func (m *remoteMachine) Console() string { return m.console.String() }

func (m *remoteMachine) Agent() *agent.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// Scheduled implements [vm.Hosted].
func (m *remoteMachine) Scheduled(ctx context.Context) (vm.Scheduled, error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	params, err := m.host.virt.VCPUStats(ctx, m.running())
	if err != nil {
		return vm.Scheduled{}, m.host.explain("ask for the CPUs of "+m.name, err)
	}
	return libvirt.Scheduled(params)
}

// Close ends the machine at once.
func (m *remoteMachine) Close() error {
	var errs []error
	for _, leave := range m.leave {
		errs = append(errs, leave())
	}
	if client := m.Agent(); client != nil {
		errs = append(errs, client.Close())
	}
	m.mu.Lock()
	text := m.text
	m.mu.Unlock()
	if text != nil {
		errs = append(errs, text.Close())
	}
	if m.entry.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
		defer cancel()
		errs = append(errs, m.host.remove(ctx, m.entry))
	}
	if m.console != nil {
		errs = append(errs, m.console.Close())
	}
	return errors.Join(errs...)
}

// console keeps the text that a machine's kernel prints: in a file, or its end in memory. Safe for
// concurrent use.
type console struct {
	mu   sync.Mutex
	file *os.File // or nil
	tail []byte
}

// consoleTail bounds the bytes kept in memory of a console without a file.
const consoleTail = 64 << 10

func newConsole(path string) (*console, error) {
	if path == "" {
		return new(console), nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("keep a console: %w", err)
	}
	return &console{file: file}, nil
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		return c.file.Write(p)
	}
	c.tail = append(c.tail, p...)
	if more := len(c.tail) - consoleTail; more > 0 {
		c.tail = append(c.tail[:0], c.tail[more:]...)
	}
	return len(p), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return string(c.tail)
	}
	text, err := os.ReadFile(c.file.Name())
	if err != nil {
		return ""
	}
	return string(text)
}

func (c *console) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

var _ vm.Hosted = (*remoteMachine)(nil)
