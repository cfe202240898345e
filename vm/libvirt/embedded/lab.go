// Package embedded makes labs of virtual machines on a private libvirt daemon inside the sandbox.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/netns"
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
	accel   libvirt.Accelerator
	about   vm.About

	netns.Nodes // its load nodes, and the links of all nodes
}

// Open starts the daemon. It needs the capabilities and the namespaces of the sandbox.
func Open(ctx context.Context, options Options) (_ *Lab, err error) {
	l := &Lab{options: options}
	l.accel = libvirt.ChooseAccelerator(options.Accelerator, options.Cache)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	folder := filepath.Join(options.Runtime, "libvirt")
	if l.daemon, err = startDaemon(ctx, folder, options.Cache); err != nil {
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

// About returns what the lab runs on. The accelerator is certain once a machine has booted.
func (l *Lab) About() vm.About {
	about := l.about
	about.Accelerator, about.AcceleratorNote = l.accel.Name, l.accel.Note
	return about
}

// Close ends the lab: its links, its connection and its daemon.
func (l *Lab) Close() error {
	errs := []error{l.Bridges.Close()}
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
	libvirt.Machine
	lab    *Lab
	number int
	bound  func() // ends the bound of its console
}

// Boot starts a machine and waits for its agent. The error is a *vm.BootError, with the end of the
// console, when the machine started but its agent did not answer in time.
func (l *Lab) Boot(ctx context.Context, spec vm.Machine) (vm.Node, error) {
	return l.Accelerated(ctx, func(accelerator string, proven bool) (vm.Node, error) {
		return l.boot(ctx, libvirt.Domain{Accelerator: accelerator, Machine: spec}, proven)
	})
}

func (l *Lab) boot(ctx context.Context, d libvirt.Domain, proven bool) (_ vm.Node, err error) {
	number := l.Number()
	id := fmt.Sprintf("%s%d", d.Machine.Name, number)
	d.Name, d.Channel = "ctload-"+id, filepath.Join(l.options.Runtime, id+".sock")
	m := &machine{lab: l, number: number, Machine: libvirt.Machine{
		Description: d, Limit: libvirt.LimitOf(d.Accelerator, proven),
		Virt: l.virt, Ends: &l.Ends, Explain: l.explain,
	}}
	m.Start = m.start
	m.bound = vm.BoundConsole(d.Machine.ConsoleFile)
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if err := m.addCards(); err != nil {
		return nil, err
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	m.Plug(func(name string) *link.Bridge {
		bridge, _ := l.Bridge(name) // addCards has made it
		return bridge
	})
	return m, nil
}

// start returns when the agent has answered and the machine's cards have their addresses.
func (m *machine) start(ctx context.Context) error {
	if err := m.boot(ctx); err != nil {
		return err
	}
	if linked := m.Description.Machine.Linked; linked != nil {
		select {
		case <-linked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return m.join(ctx)
}

// boot starts the machine and returns when its agent has answered.
func (m *machine) boot(ctx context.Context) error {
	ctx, cancel := vm.AwaitAgent(ctx, m.Limit)
	defer cancel()
	if err := m.Create(ctx, 0); err != nil {
		return m.Explain("start machine "+m.Name(), err)
	}
	stream, err := (&net.Dialer{}).DialContext(ctx, "unix", m.Description.Channel)
	if err != nil {
		err = fmt.Errorf("connect to its agent's port: %w", err)
	} else {
		err = m.Greet(ctx, stream, nil)
	}
	if err != nil {
		return &vm.BootError{Node: m.Name(), Reason: err, Console: m.Console()}
	}
	return nil
}

// join puts the machine's taps on the lab's bridges and gives its cards their addresses.
func (m *machine) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	for i, port := range m.Description.Machine.Ports {
		bridge, err := m.lab.Bridge(port.Link)
		if err == nil {
			err = bridge.Join(m.Description.Cards[i].Tap)
		}
		if err != nil {
			return err
		}
	}
	return m.Address(ctx)
}

// addCards makes a bridge and a tap for each port, and remembers each tap.
func (m *machine) addCards() error {
	for i, port := range m.Description.Machine.Ports {
		if _, err := m.lab.Bridge(port.Link); err != nil {
			return err
		}
		tap := fmt.Sprintf("tap%d.%d", m.number, i)
		if err := link.AddTap(tap); err != nil {
			return err
		}
		card := libvirt.Card{Tap: tap, MAC: netns.MAC(m.number, i).String()}
		m.Description.Cards = append(m.Description.Cards, card)
	}
	return nil
}

// Ended implements [vm.Mortal]: the lab ends with its daemon.
func (l *Lab) Ended() <-chan struct{} { return l.daemon.exited }

// explain distinguishes a daemon that is gone (*vm.LostError) from one that refused.
func (l *Lab) explain(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	select {
	case <-l.daemon.exited:
		return &vm.LostError{Reason: fmt.Errorf("the libvirt daemon has ended: %w", err)}
	default:
		return err
	}
}

// Console implements [vm.Node].
func (m *machine) Console() string {
	return vm.ReadConsole(m.Description.Machine.ConsoleFile)
}

// Close ends the machine at once.
func (m *machine) Close() error {
	errs := []error{m.Leave()}
	if domain := m.Running(); domain.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
		defer cancel()
		if err := m.Virt.Destroy(ctx, domain); err != nil {
			errs = append(errs, m.Explain("destroy machine "+m.Name(), err))
		}
	}
	m.bound()
	for _, c := range m.Description.Cards {
		errs = append(errs, link.Remove(c.Tap))
	}
	return errors.Join(errs...)
}

var (
	_ vm.LinkFaulty = (*Lab)(nil)
	_ vm.Mortal     = (*Lab)(nil)
)
