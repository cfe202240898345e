package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
)

// Machine is a machine of a lab, which embeds it in its own type and sets the exported fields.
type Machine struct {
	Description Domain        // starts the machine, at first and after a reset
	Limit       time.Duration // of a start
	Virt        *Connection
	Ends        *link.Ends // of the lab's links
	// Explain completes the error of a call: it tells whether the daemon is gone (*vm.LostError).
	Explain func(doing string, err error) error
	// Start returns when the agent has answered and the cards have their addresses.
	Start func(ctx context.Context) error

	leave []func() error // takes it off the lab's links

	mu       sync.Mutex
	domain   Handle        // without a name until it has started
	client   *agent.Client // a new one after each reset
	answered time.Time     // of the first answer after the boot or the reset
}

// Name implements [vm.Node].
func (m *Machine) Name() string { return m.Description.Machine.Name }

// Agent implements [vm.Node].
func (m *Machine) Agent() *agent.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// Answered returns the time of the agent's first answer, before the machine joined its links.
func (m *Machine) Answered() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answered
}

// Running returns libvirt's handle of the machine.
func (m *Machine) Running() Handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.domain
}

// Create starts the machine's domain; flags holds further ones.
func (m *Machine) Create(ctx context.Context, flags createFlags) error {
	xml, err := m.Description.xml()
	if err != nil {
		return err
	}
	domain, err := m.Virt.Create(ctx, xml, flags)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.domain = domain
	return nil
}

// Greet returns when the agent at the stream's end has answered; it calls resume first, if any.
func (m *Machine) Greet(ctx context.Context, stream io.ReadWriteCloser, resume func() error) error {
	client, err := agent.NewClient(m.Name(), stream)
	if err != nil {
		return errors.Join(err, stream.Close())
	}
	m.mu.Lock()
	m.client = client
	m.mu.Unlock()
	if resume != nil {
		if err := resume(); err != nil {
			return err
		}
	}
	if _, err := client.Hello(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errors.New("the machine ended before its agent answered")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered = time.Now()
	return nil
}

// Address gives the machine's cards their addresses.
func (m *Machine) Address(ctx context.Context) error {
	for i, port := range m.Description.Machine.Ports {
		if err := m.Agent().Network(ctx, port.Network(m.Description.Cards[i].MAC)); err != nil {
			return err
		}
	}
	return nil
}

// Plug adds the machine's cards to the ends of the lab's links, which bridge returns.
func (m *Machine) Plug(bridge func(link string) *link.Bridge) {
	for i, port := range m.Description.Machine.Ports {
		card := m.Description.Cards[i]
		m.leave = append(m.leave, m.Ends.Add(link.End{
			Node: m.Name(), Link: port.Link, Name: card.Tap, Bridge: bridge(port.Link),
			Card: &plugged{machine: m, card: card},
		}))
	}
}

// Leave takes the machine off the lab's links and ends the client of its agent.
func (m *Machine) Leave() error {
	var errs []error
	for _, leave := range m.leave {
		errs = append(errs, leave())
	}
	if client := m.Agent(); client != nil {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

// do makes one call about the machine's domain; doing names it in errors, as "pause".
func (m *Machine) do(ctx context.Context, doing string, call func(Handle) error) error {
	ctx, cancel := context.WithTimeout(ctx, CallLimit)
	defer cancel()
	if err := m.Virt.Do(ctx, func() error { return call(m.Running()) }); err != nil {
		return m.Explain(doing+" machine "+m.Name(), err)
	}
	return nil
}

// Pause implements [vm.Pausable].
func (m *Machine) Pause(ctx context.Context) error {
	return m.do(ctx, "pause", m.Virt.DomainSuspend)
}

// Resume implements [vm.Pausable].
func (m *Machine) Resume(ctx context.Context) error {
	if paused, err := m.Paused(ctx); err != nil || !paused {
		return err
	}
	return m.do(ctx, "resume", m.Virt.DomainResume)
}

// Paused implements [vm.Pausable].
func (m *Machine) Paused(ctx context.Context) (paused bool, err error) {
	err = m.do(ctx, "ask for the state of", func(domain Handle) error {
		state, _, err := m.Virt.DomainGetState(domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// Reset implements [vm.Resettable] by a power cut: the machine ends at once and starts again with
// the same UUID, on the same links. libvirt's own reset does not: QEMU's clock continues through
// it, and under TCG (QEMU 7.2) a guest then stands still for as long as it was up before.
func (m *Machine) Reset(ctx context.Context) error {
	m.Ends.Rebooted(m.Name())
	before := m.Agent()
	err := m.do(ctx, "cut the power of", func(domain Handle) error {
		err := m.Virt.DomainDestroy(domain)
		if golibvirt.IsNotFound(err) { // it has ended by itself
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := before.Close(); err != nil {
		return fmt.Errorf("cut the power of machine %s: end its agent's stream: %w", m.Name(), err)
	}
	ctx, cancel := vm.AwaitAgent(ctx, m.Limit)
	defer cancel()
	return m.Start(ctx)
}

// Scheduled implements [vm.Hosted].
func (m *Machine) Scheduled(ctx context.Context) (s vm.Scheduled, err error) {
	err = m.do(ctx, "ask for the CPUs of", func(domain Handle) (err error) {
		s, err = m.Virt.Scheduled(domain)
		return err
	})
	return s, err
}

// Scheduled returns how long a domain ran and waited: libvirt's vcpu.N.time and vcpu.N.delay
// (libvirt 7.2), both in nanoseconds; the delay comes from the host's schedstat.
func (c *Connection) Scheduled(domain Handle) (s vm.Scheduled, err error) {
	const figures = uint32(golibvirt.DomainStatsVCPU)
	records, err := c.ConnectGetAllDomainStats([]Handle{domain}, figures, 0)
	if err != nil {
		return s, err
	}
	if len(records) != 1 {
		return s, fmt.Errorf("figures of %d domains for one", len(records))
	}
	delays := 0
	for _, p := range records[0].Params {
		ns, ok := p.Value.I.(uint64)
		if !ok || !strings.HasPrefix(p.Field, "vcpu.") {
			continue
		}
		switch {
		case strings.HasSuffix(p.Field, ".time"):
			s.Ran += time.Duration(ns)
		case strings.HasSuffix(p.Field, ".delay"):
			s.Waited += time.Duration(ns)
			delays++
		}
	}
	if delays == 0 {
		return s, errors.New("libvirt does not tell how long CPUs waited: it does from 7.2 on, " +
			"where the host's kernel keeps schedstat")
	}
	return s, nil
}

// plugged is one of a machine's cards as links see it.
type plugged struct {
	machine *Machine
	card    Card
	shaping *agent.Client // the client asked to shape the card and not yet to stop; nil: none
}

type conditions = link.Conditions

// Shape implements [link.Card] through the machine's agent.
func (p *plugged) Shape(ctx context.Context, c conditions) (to, from conditions, err error) {
	client, mac := p.machine.Agent(), p.card.MAC
	fault := faults.Fault{ID: "link of " + mac, Kind: actions.Network, Card: mac, Conditions: c}
	before := p.shaping
	p.shaping = nil
	if before == client { // not a client from before a reset
		if _, err := client.Revert(ctx, fault.ID); err != nil {
			return to, from, err
		}
	}
	if !c.Shapes() && !c.Partitioned {
		return to, from, nil
	}
	reading, err := client.Apply(ctx, fault)
	if err != nil {
		return to, from, err
	}
	p.shaping = client
	return reading.Received, reading.Sent, nil
}

// SetCarrier implements [link.Card].
func (p *plugged) SetCarrier(ctx context.Context, up bool) error {
	card := interfaces([]Card{p.card})[0]
	card.Link = &libvirtxml.DomainInterfaceLink{State: "up"}
	if !up {
		card.Link.State = "down"
	}
	xml, err := card.Marshal()
	if err != nil {
		return fmt.Errorf("describe a card of %s for libvirt: %w", p.machine.Name(), err)
	}
	return p.machine.do(ctx, "change the carrier of a card of", func(domain Handle) error {
		const flags = golibvirt.DomainDeviceModifyLive
		return p.machine.Virt.DomainUpdateDeviceFlags(domain, xml, flags)
	})
}

// Carrier implements [link.Card]; it reads libvirt's description of the machine.
func (p *plugged) Carrier(ctx context.Context) (up bool, err error) {
	var xml string
	err = p.machine.do(ctx, "describe", func(domain Handle) (err error) {
		xml, err = p.machine.Virt.DomainGetXMLDesc(domain, 0)
		return err
	})
	if err != nil {
		return false, err
	}
	var doc libvirtxml.Domain
	if err := doc.Unmarshal(xml); err != nil {
		return false, fmt.Errorf("read libvirt's description of %s: %w", p.machine.Name(), err)
	}
	for _, card := range doc.Devices.Interfaces {
		if card.MAC != nil && card.MAC.Address == p.card.MAC {
			return card.Link == nil || card.Link.State != "down", nil
		}
	}
	return false, fmt.Errorf("libvirt knows no card %s of %s", p.card.MAC, p.machine.Name())
}

var (
	_ link.Card     = (*plugged)(nil)
	_ vm.Hosted     = (*Machine)(nil)
	_ vm.Pausable   = (*Machine)(nil)
	_ vm.Resettable = (*Machine)(nil)
)
