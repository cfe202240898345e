package vagrant

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/embedded"
)

//go:embed prepare.sh
var prepareScript string

// Lab is an embedded lab (embedded.Lab) whose DUT is a machine of a box.
type Lab struct {
	*embedded.Lab
	options    embedded.Options
	box        Box
	state      *state
	management string // bridge
	console    string // path
	dut        *dut   // nil until the first boot
}

// Names of objects in the private daemon.
const (
	prefix   = "ctload"
	domain   = prefix + "-dut"
	snapshot = "fresh"
)

// agentPath is the agent's path on the machine.
const agentPath = "/var/lib/ctload/" + agent.StdioRole

// Limits of Vagrant's work. Emulated, a distribution boots in some 25 s on an idle host.
const (
	upLimit       = 10 * time.Minute // on a busy host
	proofLimit    = 90 * time.Second // under KVM, before KVM is proven
	destroyLimit  = time.Minute
	snapshotLimit = 2 * time.Minute
	agentLimit    = time.Minute
)

// Open starts the embedded lab with the machine's disk in its runtime folder, in the sandbox.
func Open(ctx context.Context, options embedded.Options, box Box) (_ *Lab, err error) {
	if err := coverFolders(options.Runtime + "/libvirt/run/libvirt/dnsmasq/lib"); err != nil {
		return nil, err
	}
	if err := box.fits(); err != nil {
		return nil, err
	}
	base, err := embedded.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, base.Close())
		}
	}()
	l := &Lab{Lab: base, options: options, box: box, console: options.Runtime + "/console"}
	if l.management, err = base.Management(ctx); err != nil {
		return nil, err
	}
	l.state, err = newState(filepath.Join(options.Runtime, "vagrant"), box.boxes)
	return l, err
}

// About returns what the lab runs on.
func (l *Lab) About() vm.About {
	about := l.Lab.About()
	about.Driver = "vagrant"
	about.Box, about.BoxVersion = l.box.identity()
	return about
}

// dut is the single machine of a lab through all trials.
type dut struct {
	shape    shape
	endpoint endpoint
	saved    bool // a snapshot exists
	used     bool // by a trial since it was brought up or restored
}

// shape holds what only another machine can change.
type shape struct {
	vcpus       int
	memoryBytes int64
	links       string
	accelerator string
}

// Boot brings the machine up, or restores its state after its boot, and starts its agent. It uses
// the box's kernel. The error is a *vm.BootError when a started machine could not be used.
func (l *Lab) Boot(ctx context.Context, spec vm.Machine) (vm.Node, error) {
	var names []string
	for _, port := range spec.Ports {
		names = append(names, port.Link)
	}
	wanted := shape{spec.VCPUs, spec.MemoryBytes, strings.Join(names, ","), ""}
	return l.Accelerated(ctx, func(accelerator string, proven bool) (vm.Node, error) {
		wanted.accelerator = accelerator
		limit := upLimit
		if !proven {
			limit = proofLimit
		}
		return l.boot(ctx, spec, wanted, limit)
	})
}

func (l *Lab) boot(
	ctx context.Context, spec vm.Machine, wanted shape, limit time.Duration,
) (_ vm.Node, err error) {
	switch {
	case l.dut == nil || l.dut.shape != wanted:
		err = l.up(ctx, wanted, limit)
	case l.dut.used:
		err = l.restore(ctx)
	}
	if err != nil {
		return nil, l.failed(spec.Name, err)
	}
	l.dut.used = true
	m := &machine{lab: l, name: spec.Name, consoleFile: spec.ConsoleFile}
	if info, err := os.Stat(l.console); err == nil {
		m.consoleFrom = info.Size()
	}
	if err := m.start(ctx, spec.Ports); err != nil {
		return nil, errors.Join(l.failed(spec.Name, err), m.Close())
	}
	return m, nil
}

// failed distinguishes a started machine, which the next boot may repair, from none.
func (l *Lab) failed(name string, err error) error {
	console := l.consoleText(0)
	if console == "" && l.dut == nil {
		return &vm.LostError{Reason: err}
	}
	return &vm.BootError{Node: name, Reason: err, Console: console}
}

// up replaces the present machine by one of the wanted shape.
func (l *Lab) up(ctx context.Context, wanted shape, limit time.Duration) error {
	if err := l.destroy(ctx); err != nil {
		return err
	}
	l.options.Tell("bringing up the box " + l.box.Given + "; it is restored before each trial")
	bridges := []string{l.management}
	for name := range strings.SplitSeq(wanted.links, ",") {
		bridge, err := l.Bridge(name)
		if err != nil {
			return err
		}
		bridges = append(bridges, bridge.Name())
	}
	for _, bridge := range bridges {
		if err := link.Prepare(bridge); err != nil {
			return err
		}
	}
	virt := "qemu"
	if wanted.accelerator == libvirt.KVM {
		virt = "kvm"
	}
	l.state.env = nil
	for name, value := range map[string]any{
		"ID": prefix, "BOX": l.box.Name, "URI": l.URI(), "VIRT": virt,
		"CPUS": wanted.vcpus, "MEMORY": wanted.memoryBytes >> 20, "ADDRESSES": 0,
		"BRIDGES": strings.Join(bridges, ","), "ROUTER": len(bridges) - 2,
		"POOL": filepath.Join(l.options.Runtime, "pool"), "CONSOLE": l.console,
	} {
		l.state.env = append(l.state.env, fmt.Sprintf("CTLOAD_%s=%v", name, value))
	}
	up := []string{"up", "--no-tty", "--provider", "libvirt", "dut"}
	if _, err := l.state.run(ctx, limit, up...); err != nil {
		return err
	}
	config, err := l.state.run(ctx, snapshotLimit, "ssh-config", "dut")
	if err != nil {
		return err
	}
	file := filepath.Join(l.state.dir, "ssh-config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return fmt.Errorf("keep how to reach the machine: %w", err)
	}
	d := &dut{shape: wanted, endpoint: endpoint(file)}
	if err := l.prepare(ctx, d); err != nil {
		return err
	}
	save := []string{"snapshot", "save", "--no-tty", "dut", snapshot}
	_, err = l.state.run(ctx, snapshotLimit, save...)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		l.options.Tell("no snapshot can be saved: each trial begins with a reboot: " + err.Error())
	}
	d.saved = err == nil
	l.dut = d
	return nil
}

// destroy ends the machine and removes its disk, and also what a failed bring-up left.
func (l *Lab) destroy(ctx context.Context) error {
	if l.state.env == nil {
		return nil // never tried
	}
	l.dut = nil
	_ = os.Remove(l.console)
	_, err := l.state.run(ctx, destroyLimit, "destroy", "--no-tty", "--force", "dut")
	return err
}

// aboutBox is a shell command that prints which parts of the distribution the trial measures too.
const aboutBox = `. /etc/os-release
echo "$PRETTY_NAME, kernel $(uname -r);"
own=
for unit in firewalld ufw nftables iptables netfilter-persistent; do
	! sudo -n systemctl --quiet is-active $unit.service 2>/dev/null || own="$own $unit"
done
echo "firewall of its own:${own:- none};"
max=$(cat /proc/sys/net/netfilter/nf_conntrack_max 2>/dev/null) &&
	echo "it tracks, with nf_conntrack_max $max" ||
	echo "nothing is tracked before the rules of an experiment"
for tool in iptables-restore nft modprobe; do
	PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || echo "; it has no $tool"
done`

// prepare copies the agent to the machine and moves its management out of the network under test.
func (l *Lab) prepare(ctx context.Context, d *dut) error {
	ctx, cancel := within(ctx, snapshotLimit)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	about, err := d.endpoint.run(ctx, nil, aboutBox)
	if err != nil {
		return fmt.Errorf("ask the machine what it is: %w", err)
	}
	l.options.Tell("the machine is " + strings.Join(strings.Fields(about), " "))
	if err := d.endpoint.copy(ctx, self, agentPath); err != nil {
		return fmt.Errorf("copy the agent to the machine: %w", err)
	}
	// The third word is the address that ssh has reached.
	const start = "set -- $SSH_CONNECTION; sudo -n sh -s $3"
	if _, err := d.endpoint.run(ctx, strings.NewReader(prepareScript), start); err != nil {
		return fmt.Errorf("prepare the machine: %w", err)
	}
	// A connection to the old place fails; one to the new place finds no card under test.
	const moved = "test $(readlink /proc/self/ns/net) != $(sudo -n readlink /proc/1/ns/net)"
	if err := d.endpoint.until(ctx, moved); err != nil {
		return fmt.Errorf("reach the machine again once its management has moved: %w", err)
	}
	return nil
}

// restore returns the machine to its state before the first trial.
func (l *Lab) restore(ctx context.Context) error {
	if l.dut.saved {
		return l.Restore(ctx, domain, snapshot)
	}
	if _, err := l.state.run(ctx, upLimit, "reload", "--no-tty", "dut"); err != nil {
		return err
	}
	return l.prepare(ctx, l.dut)
}

// consoleText returns the console from an offset on; all of it when it was truncated meanwhile.
func (l *Lab) consoleText(from int64) string {
	text := vm.ReadConsole(l.console)
	if from > int64(len(text)) {
		from = 0
	}
	return text[from:]
}

// machine is the DUT during one trial.
type machine struct {
	lab         *Lab
	name        string
	client      *agent.Client
	consoleFile string // path
	consoleFrom int64  // offset at which the trial began
}

// start starts the agent, sets the clock, still at the snapshot's time, and the cards' addresses.
func (m *machine) start(ctx context.Context, ports []vm.Port) error {
	ctx, cancel := vm.AwaitAgent(ctx, agentLimit)
	defer cancel()
	// The network and the mounts of PID 1, which may differ from the ssh server's.
	const start = "exec sudo -n nsenter --target 1 --net --mount " + agentPath
	stream, err := m.lab.dut.endpoint.stream(start)
	if err != nil {
		return err
	}
	if m.client, err = agent.NewClient(m.name, stream); err != nil {
		return errors.Join(err, stream.Close())
	}
	if _, err := m.client.Hello(ctx); err != nil {
		return fmt.Errorf("%w: %s", err, stream.said.String())
	}
	now := strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64)
	out, err := m.client.Exec(ctx, "", "date", "--set", "@"+now)
	if err != nil {
		return err
	}
	if out.Exit != 0 {
		return fmt.Errorf("set the machine's clock: %s", strings.TrimSpace(out.Stderr))
	}
	for i, port := range ports {
		if err := m.client.Network(ctx, port.Network(macAddress(i))); err != nil {
			return err
		}
	}
	return nil
}

// macAddress returns the address of the machine's card on its nth link, as in the Vagrantfile.
func macAddress(n int) string { return fmt.Sprintf("52:54:00:%02x:00:01", 77+n) }

func (m *machine) Name() string         { return m.name }
func (m *machine) Agent() *agent.Client { return m.client }
func (m *machine) Console() string      { return m.lab.consoleText(m.consoleFrom) }

// Scheduled implements [vm.Hosted].
func (m *machine) Scheduled(ctx context.Context) (vm.Scheduled, error) {
	return m.lab.ScheduledOf(ctx, domain)
}

// Close ends the agent and keeps the trial's console. The machine runs until it is restored.
func (m *machine) Close() error {
	var errs []error
	if m.client != nil {
		errs = append(errs, m.client.Close())
	}
	if m.consoleFile != "" {
		errs = append(errs, os.WriteFile(m.consoleFile, []byte(m.Console()), 0o600))
	}
	return errors.Join(errs...)
}

var _ vm.Hosted = (*machine)(nil)
