package shared

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"sync"

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

// boot starts a machine within the limit of m and waits for its agent. serial is its number.
func (m *remoteMachine) boot(ctx context.Context, l *Lab, serial int) (_ vm.Node, err error) {
	h := m.host
	m.Virt, m.Ends, m.Explain, m.Start = h.virt, &l.Ends, h.explain, m.start
	if m.console, err = newConsole(m.Description.Machine.ConsoleFile); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if err := m.describe(ctx, l, serial); err != nil {
		return nil, err
	}
	if m.entry, err = h.record(journal.Domain, m.Description.Name, newUUID()); err != nil {
		return nil, err
	}
	m.Description.UUID = m.entry.Detail
	ctx, cancel := vm.AwaitAgent(ctx, m.Limit)
	defer cancel()
	if err := m.start(ctx); err != nil {
		missing, ok := errors.AsType[*guest.MissingError](err)
		if ok && len(l.options.Networks) > 0 {
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

// describe completes the description, and brings everything that the machine needs to its host.
func (m *remoteMachine) describe(ctx context.Context, l *Lab, serial int) (err error) {
	h, d, spec := m.host, &m.Description, &m.Description.Machine
	d.Name = l.options.objectName(fmt.Sprintf("%s%s-%d", l.lane, spec.Name, serial))
	d.Run, d.Kind, d.CPUs = l.options.Run, h.kind, l.cpus
	if spec.Kernel, err = h.image(ctx, spec.Kernel); err != nil {
		return err
	}
	if spec.Initramfs, err = h.image(ctx, spec.Initramfs); err != nil {
		return err
	}
	spec.ConsoleFile = "" // the path is on this host and not on the daemon's
	for i, port := range spec.Ports {
		card, err := l.links.card(ctx, h, l.lane+port.Link)
		if err != nil {
			return err
		}
		card.MAC = l.mac(serial, i)
		d.Cards = append(d.Cards, card)
	}
	return nil
}

// mac returns the hardware address of a machine's nth card, in QEMU's range for local use. The ids
// of two runs that share a bridge select one of 65,536 ranges each.
func (l *Lab) mac(machine, n int) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(l.options.Run + l.lane))
	last := n&0xf | machine>>8&0xf<<4
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x",
		sum.Sum32()>>8&0xff, sum.Sum32()&0xff, machine&0xff, last)
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
		err := m.Virt.Do(ctx, func() error { return m.Virt.DomainResume(domain) })
		if err != nil {
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

// console keeps what a machine's kernel prints: in a file, or its end in memory.
type console struct {
	file *os.File // or nil
	tail vm.Tail  // without a file

	mu     sync.Mutex
	stream io.Closer // nil until the machine has started
}

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
	var to io.Writer = &c.tail
	if c.file != nil {
		to = c.file
	}
	go func() {
		_, _ = io.Copy(to, io.LimitReader(text, vm.MaxConsole))
		_, _ = io.Copy(io.Discard, text) // a reader that stops blocks the connection
	}()
}

func (c *console) String() string {
	if c.file == nil {
		return c.tail.String()
	}
	return vm.ReadConsole(c.file.Name())
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
