package libvirt

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
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/link"
)

// remoteMachine is a machine on a daemon that exists.
type remoteMachine struct {
	name    string
	host    *hypervisor
	entry   journal.Entry // of its domain; empty until it was recorded
	domain  golibvirt.Domain
	client  *agent.Client
	streams []io.Closer
	console *console
	leave   []func() error // takes it off the lab's links
}

// boot starts a machine and waits for its agent. The machine is created paused, so that nothing of its
// console is missed.
func (l *Shared) boot(ctx context.Context, h *hypervisor, spec vm.Machine, serial int, accelerator string, limit time.Duration) (_ vm.Node, err error) {
	m := &remoteMachine{name: spec.Name, host: h}
	defer func() {
		if err != nil {
			err = joinClose(err, m.Close())
		}
	}()
	if m.console, err = newConsole(spec.ConsoleFile); err != nil {
		return nil, err
	}
	description, err := l.describe(ctx, h, spec, serial, accelerator)
	if err != nil {
		return nil, err
	}
	if m.entry, err = h.record(journal.Domain, description.name, newUUID()); err != nil {
		return nil, err
	}
	description.uuid = m.entry.Detail
	xml, err := description.xml()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("its agent did not answer within %v", limit))
	defer cancel()
	if m.domain, err = h.virt.create(ctx, xml, golibvirt.DomainStartPaused); err != nil {
		err = h.refused(err, "start machine "+spec.Name)
		if missing, ok := errors.AsType[*guest.MissingError](err); ok && len(l.options.Networks) > 0 {
			missing.Fix = "--network with a bridge or a libvirt network that every host has"
		}
		return nil, err
	}
	if err := m.converse(ctx); err != nil {
		if lost := h.lost("start machine "+spec.Name, err); lost != nil {
			return nil, lost
		}
		return nil, &vm.BootError{Node: spec.Name, Reason: err, Console: m.Console()}
	}
	for i, port := range spec.Ports {
		m.leave = append(m.leave, l.ends.Add(link.End{Node: spec.Name, Link: port.Link, Card: &plugged{machine: m, card: description.cards[i]}}))
		network := agent.Network{MAC: description.cards[i].mac, Addresses: port.Addresses, Routes: port.Routes, Local: port.Local}
		if err := m.client.Network(ctx, network); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// describe brings everything that a machine needs to its host.
func (l *Shared) describe(ctx context.Context, h *hypervisor, spec vm.Machine, serial int, accelerator string) (domain, error) {
	d := domain{
		name: l.options.objectName(fmt.Sprintf("%s%s-%d", l.lane, spec.Name, serial)), run: l.options.Run,
		kind: h.kind, accelerator: accelerator, cpus: l.cpus,
	}
	var err error
	if spec.Kernel, err = h.image(ctx, spec.Kernel); err != nil {
		return d, err
	}
	if spec.Initramfs, err = h.image(ctx, spec.Initramfs); err != nil {
		return d, err
	}
	spec.ConsoleFile = "" // which is here and not there
	d.machine = spec
	for i, port := range spec.Ports {
		card, err := l.links.card(ctx, h, l.lane+port.Link)
		if err != nil {
			return d, err
		}
		card.mac = l.mac(serial, i)
		d.cards = append(d.cards, card)
	}
	return d, nil
}

// mac is the hardware address of a machine's nth card, in QEMU's range for local use. Two runs that share
// a bridge draw theirs from 65,536 places by their ids.
func (l *Shared) mac(machine, n int) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(l.options.Run + l.lane))
	place := sum.Sum32()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", place>>8&0xff, place&0xff, machine&0xff, n&0xf|machine>>8&0xf<<4)
}

// converse lets the machine go and waits until its agent has answered.
func (m *remoteMachine) converse(ctx context.Context) error {
	at := m.host.at
	text, err := at.openConsole(ctx, m.domain)
	if err != nil {
		return err
	}
	m.streams = append(m.streams, text)
	go func() { _, _ = io.Copy(m.console, text) }() // ends with the stream
	port, err := at.openChannel(ctx, m.domain, agent.PortName)
	if err != nil {
		return err
	}
	if m.client, err = agent.NewClient(m.name, port); err != nil {
		return errors.Join(err, port.Close())
	}
	if err := m.host.virt.do(ctx, func() error { return m.host.virt.virt.DomainResume(m.domain) }); err != nil {
		return fmt.Errorf("let it go: %w", err)
	}
	if _, err := m.client.Hello(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errors.New("the machine ended before its agent answered")
	}
	return nil
}

func (m *remoteMachine) Name() string         { return m.name }
func (m *remoteMachine) Agent() *agent.Client { return m.client }
func (m *remoteMachine) Console() string      { return m.console.String() }

// Scheduled implements [vm.Hosted].
func (m *remoteMachine) Scheduled(ctx context.Context) (vm.Scheduled, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	params, err := m.host.virt.vcpuStats(ctx, m.domain)
	if err != nil {
		return vm.Scheduled{}, m.host.explain("ask for the CPUs of "+m.name, err)
	}
	return scheduled(params)
}

// Close ends the machine at once.
func (m *remoteMachine) Close() error {
	var errs []error
	for _, leave := range m.leave {
		errs = append(errs, leave())
	}
	if m.client != nil {
		errs = append(errs, m.client.Close())
	}
	for _, s := range m.streams {
		errs = append(errs, s.Close())
	}
	if m.entry.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		errs = append(errs, m.host.remove(ctx, m.entry))
	}
	if m.console != nil {
		errs = append(errs, m.console.Close())
	}
	return errors.Join(errs...)
}

// console keeps what a machine's kernel prints: in a file, or its end in memory. Safe for concurrent use.
type console struct {
	mu   sync.Mutex
	file *os.File // or nil
	tail []byte
}

// consoleTail is how much is kept in memory of a console that has no file.
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
