package shared

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// Beside holds labs for concurrent trials, each on its own CPUs of one host. It acts as the first.
type Beside struct {
	vm.Lab
	labs []vm.Lab
	all  *Lab // the lab that owns the hosts
}

// Labs returns all labs.
func (b *Beside) Labs() []vm.Lab { return b.labs }

// ConnectBeside opens at most most labs. It leaves out hosts that differ from the first, since
// their trials could not be compared; each host gets as many labs as its CPUs, in whole cores, and
// its memory allow. The error is that of [Connect].
func ConnectBeside(ctx context.Context, options Options, most int) (_ *Beside, err error) {
	b := &Beside{all: &Lab{options: options}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if err := b.all.openHosts(ctx); err != nil {
		return nil, err
	}
	b.all.warn(ctx)
	first := b.all.hosts[0]
	sets := map[*hypervisor][]string{}
	for _, h := range b.all.hosts {
		if why := h.unlike(first); why != "" {
			options.tell("%s is left out: %s", h.at.Name(), why)
			continue
		}
		one := b.lab(h, "", "")
		if err := one.arrange(); err != nil { // it must hold one trial
			return nil, err
		}
		sets[h] = one.sets()
	}
	// The first of each host, then the second of each: this shares heat and turbo evenly.
	for i := 0; len(b.labs) < most; i++ {
		before := len(b.labs)
		for _, h := range b.all.hosts {
			if i < len(sets[h]) && len(b.labs) < most {
				lab := b.lab(h, fmt.Sprintf("%d-", len(b.labs)+1), sets[h][i])
				if err := lab.arrange(); err != nil {
					return nil, err
				}
				b.labs = append(b.labs, lab)
			}
		}
		if len(b.labs) == before {
			break
		}
	}
	b.Lab = b.labs[0]
	if n := len(b.labs); n < most {
		options.tell("%d trials at once, not %d: a trial takes %d CPUs of a host for itself",
			n, most, b.lab(first, "", "").need())
	}
	return b, nil
}

// lab returns a lab on an open host.
func (b *Beside) lab(h *hypervisor, lane, cpus string) *Lab {
	l := &Lab{options: b.all.options, hosts: []*hypervisor{h}, borrowed: true}
	l.lane, l.cpus = lane, cpus
	return l
}

// Close removes everything that the labs made on all hosts.
func (b *Beside) Close() error { return b.all.Close() }

// need returns the number of CPUs that a trial takes on one host.
func (l *Lab) need() int { return l.options.DUT.VCPUs + len(l.options.LoadNodes)*l.load().VCPUs }

// sets returns the sets of CPUs that a host has for labs, as many as its memory holds; one of all
// CPUs where a trial needs more CPUs than the host has.
func (l *Lab) sets() []string {
	h, load := l.hosts[0], l.load().MemoryBytes+hostMemory
	sets := cpuSets(h.cpus, l.need())
	if len(sets) == 0 {
		return []string{""}
	}
	trial := l.options.DUT.MemoryBytes + hostMemory + int64(len(l.options.LoadNodes))*load
	return sets[:min(len(sets), int(h.memory/trial))]
}

// cpuSets divides a host's cores into sets of at least need threads that share no core.
func cpuSets(cores []core, need int) []string {
	var sets []string
	var set []int
	for _, c := range cores {
		set = append(set, c...)
		if len(set) >= need {
			slices.Sort(set)
			// "[2 3]" becomes "2,3".
			sets = append(sets, strings.ReplaceAll(strings.Trim(fmt.Sprint(set), "[]"), " ", ","))
			set = nil
		}
	}
	return sets
}

// unlike returns how a host differs from another in what decides figures; empty when it does not.
func (h *hypervisor) unlike(other *hypervisor) string {
	for _, d := range []struct{ what, mine, other string }{
		{"CPUs", h.model, other.model},
		{"number of CPUs", strconv.Itoa(h.threads()), strconv.Itoa(other.threads())},
		{"QEMU", h.qemu, other.qemu},
		{"libvirt", h.libvirt, other.libvirt},
		{"accelerator", h.accel.Name, other.accel.Name},
	} {
		if d.mine != d.other {
			return fmt.Sprintf("its %s: %s, not %s as %s", d.what, d.mine, d.other, other.at.Name())
		}
	}
	return ""
}

// room is the capacity of a host for machines.
type room struct {
	host   string
	cpus   int   // not yet given to a machine; may become negative
	used   int   // given
	memory int64 // in bytes
}

func (h *hypervisor) room() room {
	return room{host: h.at.Name(), cpus: h.threads(), memory: h.memory}
}

// placeNodes gives every node a host: the DUT the first, the load nodes the others in turn, and the
// first again when all others have one and it has a CPU to spare. It returns the index of the host
// by the name of the load node. The error is a *guest.MissingError: a host is too small.
func placeNodes(hosts []room, dut, load vm.Machine, names []string) (map[string]int, error) {
	free := slices.Clone(hosts)
	if err := free[0].take("the DUT", dut); err != nil {
		return nil, err
	}
	places := map[string]int{}
	next := 0
	for _, name := range names {
		next = (next + 1) % len(hosts)
		if next == 0 && len(hosts) > 1 && free[0].cpus < load.VCPUs {
			next = 1
		}
		if err := free[next].take(name, load); err != nil {
			return nil, err
		}
		places[name] = next
	}
	return places, nil
}

// take subtracts a machine's share from the free capacity. Memory must be free; CPUs may be shared
// by machines, but no machine may have more than its host.
func (r *room) take(name string, machine vm.Machine) error {
	need := machine.MemoryBytes + hostMemory
	if r.memory < need {
		return guest.Missing("a smaller dut.memory, fewer load nodes, or a further --connect",
			"%s: %s needs %d MiB with what QEMU takes, and %d MiB are free",
			r.host, name, need>>20, max(0, r.memory)>>20)
	}
	if r.cpus+r.used < machine.VCPUs {
		return guest.Missing("dut.vcpus of at most that",
			"%s: %s has %d CPUs, the host %d", r.host, name, machine.VCPUs, r.cpus+r.used)
	}
	r.memory -= need
	r.cpus -= machine.VCPUs
	r.used += machine.VCPUs
	return nil
}
