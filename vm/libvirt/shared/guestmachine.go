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
	libvirt.Machine
	host    *hypervisor
	entry   journal.Entry // of its domain; empty until recorded
	console *console
}

// boot starts a machine and waits for its agent.
func (l *Lab) boot(ctx context.Context, h *hypervisor, spec vm.Machine, serial int, accelerator string, limit time.Duration) (_ vm.Node, err error) {
	m := &remoteMachine{host: h, Machine: libvirt.Machine{Limit: limit, Virt: h.virt, Ends: &l.Ends, Explain: h.explain}}
	m.Start = m.start
	if m.console, err = newConsole(spec.ConsoleFile); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.Description, err = l.describe(ctx, h, spec, serial, accelerator); err != nil {
		return nil, err
	}
	if m.entry, err = h.record(journal.Domain, m.Description.Name, newUUID()); err != nil {
		return nil, err
	}
	m.Description.UUID = m.entry.Detail
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("its agent did not answer within %v", limit))
	defer cancel()
	if err := m.start(ctx); err != nil {
		if missing, ok := errors.AsType[*guest.MissingError](err); ok && len(l.options.Networks) > 0 {
			missing.Fix = "--network with a bridge or a libvirt network that every host has"
		}
		return nil, err
	}
	m.Plug(func(string) *link.Bridge { return nil })
	return m, nil
}

// start starts the machine and returns when its agent has answered and its cards have their
// addresses. libvirt creates the machine paused, so that the console misses nothing.
func (m *remoteMachine) start(ctx context.Context) error {
	doing := "start machine " + m.Name()
	if err := m.Create(ctx, golibvirt.DomainStartPaused); err != nil {
		return m.host.refused(err, doing)
	}
	if err := m.converse(ctx); err != nil {
		if lost := m.host.lost(doing, err); lost != nil {
			return lost
		}
		return &vm.BootError{Node: m.Name(), Reason: err, Console: m.Console()}
	}
	return m.Address(ctx)
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
	domain := m.Running()
	text, err := m.host.at.OpenConsole(ctx, domain)
	if err != nil {
		return err
	}
	m.console.follow(text)
	port, err := m.host.at.OpenChannel(ctx, domain, agent.PortName)
	if err != nil {
		return err
	}
	return m.Greet(ctx, port, func() error {
		if err := m.Virt.Do(ctx, func() error { return m.Virt.Virt.DomainResume(domain) }); err != nil {
			return fmt.Errorf("let it go: %w", err)
		}
		return nil
	})
}

// Console implements [vm.Node].
func (m *remoteMachine) Console() string { return m.console.String() }

// Close ends the machine at once.
func (m *remoteMachine) Close() error {
	errs := []error{m.Leave(), m.console.Close()}
	if m.entry.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
		defer cancel()
		errs = append(errs, m.host.remove(ctx, m.entry))
	}
	return errors.Join(errs...)
}

// console keeps the text that a machine's kernel prints: in a file, or its end in memory. Safe for
// concurrent use.
type console struct {
	mu     sync.Mutex
	stream io.Closer // nil until the machine has started
	file   *os.File  // or nil
	tail   []byte
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

// follow takes the text of a stream, which ends with its domain, in place of a former domain's.
func (c *console) follow(text io.ReadCloser) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		_ = c.stream.Close()
	}
	c.stream = text
	go func() { _, _ = io.Copy(c, text) }()
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
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.stream != nil {
		errs = append(errs, c.stream.Close())
	}
	if c.file != nil {
		errs = append(errs, c.file.Close())
	}
	return errors.Join(errs...)
}
