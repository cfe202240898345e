package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
)

// Pause implements [vm.Pausable]: QEMU stops the CPUs.
func (m *machine) Pause(ctx context.Context) error {
	return m.do(ctx, "pause", func(virt *golibvirt.Libvirt) error { return virt.DomainSuspend(m.domain) })
}

// Resume implements [vm.Pausable].
func (m *machine) Resume(ctx context.Context) error {
	if paused, err := m.Paused(ctx); err != nil || !paused {
		return err
	}
	return m.do(ctx, "resume", func(virt *golibvirt.Libvirt) error { return virt.DomainResume(m.domain) })
}

// Paused implements [vm.Pausable].
func (m *machine) Paused(ctx context.Context) (paused bool, err error) {
	err = m.do(ctx, "ask for the state of", func(virt *golibvirt.Libvirt) error {
		state, _, err := virt.DomainGetState(m.domain, 0)
		paused = golibvirt.DomainState(state) == golibvirt.DomainPaused
		return err
	})
	return paused, err
}

// Reset implements [vm.Resettable]. A machine that reboots by itself ends (on_reboot, QEMU's no-reboot), and
// that would end one that is reset as well, so that it is allowed for as long as this reset takes.
func (m *machine) Reset(ctx context.Context) (err error) {
	onReboot := func(ctx context.Context, action golibvirt.DomainLifecycleAction) error {
		return m.do(ctx, "say what ends", func(virt *golibvirt.Libvirt) error {
			return virt.DomainSetLifecycleAction(m.domain, uint32(golibvirt.DomainLifecycleReboot), uint32(action), golibvirt.DomainAffectLive)
		})
	}
	if err := onReboot(ctx, golibvirt.DomainLifecycleActionRestart); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, onReboot(context.WithoutCancel(ctx), golibvirt.DomainLifecycleActionDestroy))
	}()
	before := m.Agent()
	m.lab.places.reset(m)
	// It stands still meanwhile: the agent of before is not to notice the end of its stream, which would
	// power the machine off, nor to take in the beginning of the new one.
	if err := m.Pause(ctx); err != nil {
		return err
	}
	if err := m.do(ctx, "reset", func(virt *golibvirt.Libvirt) error { return virt.DomainReset(m.domain, 0) }); err != nil {
		return err
	}
	if err := before.Close(); err != nil {
		return fmt.Errorf("reset machine %s: end the stream of before: %w", m.name, err)
	}
	if err := m.do(ctx, "resume", func(virt *golibvirt.Libvirt) error { return virt.DomainResume(m.domain) }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("its agent did not answer within %v after a reset", m.limit))
	defer cancel()
	return m.reach(ctx)
}

// do makes one call about the machine's domain.
func (m *machine) do(ctx context.Context, doing string, call func(*golibvirt.Libvirt) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	virt := m.lab.virt
	_, err := within(ctx, virt, func() (struct{}, error) { return struct{}{}, call(virt.virt) })
	if err != nil {
		return m.lab.explain(doing+" machine "+m.name, err)
	}
	return nil
}

// setCarrier plugs the cable of one of the machine's cards in or out.
func (m *machine) setCarrier(ctx context.Context, mac string, up bool) error {
	for _, c := range m.cards {
		if c.mac != mac {
			continue
		}
		card := interfaces([]card{c})[0]
		card.Link = &libvirtxml.DomainInterfaceLink{State: "up"}
		if !up {
			card.Link.State = "down"
		}
		xml, err := card.Marshal()
		if err != nil {
			return fmt.Errorf("describe a card of %s for libvirt: %w", m.name, err)
		}
		return m.do(ctx, "change the carrier of a card of", func(virt *golibvirt.Libvirt) error {
			return virt.DomainUpdateDeviceFlags(m.domain, xml, golibvirt.DomainDeviceModifyLive)
		})
	}
	return fmt.Errorf("machine %s has no card %s", m.name, mac)
}

// carrier says whether libvirt has the cable of a card plugged in.
func (m *machine) carrier(ctx context.Context, mac string) (up bool, err error) {
	var xml string
	err = m.do(ctx, "describe", func(virt *golibvirt.Libvirt) (err error) {
		xml, err = virt.DomainGetXMLDesc(m.domain, 0)
		return err
	})
	if err != nil {
		return false, err
	}
	var doc libvirtxml.Domain
	if err := doc.Unmarshal(xml); err != nil {
		return false, fmt.Errorf("read libvirt's description of %s: %w", m.name, err)
	}
	for _, card := range doc.Devices.Interfaces {
		if card.MAC != nil && card.MAC.Address == mac {
			return card.Link == nil || card.Link.State != "down", nil
		}
	}
	return false, fmt.Errorf("libvirt's description of %s has no card %s", m.name, mac)
}

// Pause implements [vm.Pausable]: it stops the processes of the node. Its network stack is the host's and
// goes on to answer.
func (n *loadNode) Pause(context.Context) error { return n.signal(syscall.SIGSTOP) }

// Resume implements [vm.Pausable].
func (n *loadNode) Resume(context.Context) error { return n.signal(syscall.SIGCONT) }

// Paused implements [vm.Pausable].
func (n *loadNode) Paused(context.Context) (bool, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(n.client.Pid()) + "/stat")
	if err != nil {
		return false, fmt.Errorf("ask for the state of %s: %w", n.name, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name in brackets may hold anything
	return strings.HasPrefix(rest, "T"), nil
}

func (n *loadNode) signal(signal syscall.Signal) error {
	if err := syscall.Kill(n.client.Pid(), signal); err != nil {
		return fmt.Errorf("send %v to %s: %w", signal, n.name, err)
	}
	return nil
}

var (
	_ vm.Pausable   = (*machine)(nil)
	_ vm.Resettable = (*machine)(nil)
	_ vm.Pausable   = (*loadNode)(nil)
)
