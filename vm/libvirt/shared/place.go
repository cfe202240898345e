package shared

import (
	"fmt"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

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
func placeNodes(hosts []room, dut vm.Machine, names []string, load vm.Machine) (map[string]int, error) {
	free := append([]room(nil), hosts...)
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
		return &guest.MissingError{
			What: fmt.Sprintf("%s: %s needs %d MiB with what QEMU takes, and %d MiB are free", r.host, name, need>>20, max(0, r.memory)>>20),
			Fix:  "a smaller dut.memory, fewer load nodes, or another host with --connect",
		}
	}
	if r.cpus+r.used < machine.VCPUs {
		return &guest.MissingError{
			What: fmt.Sprintf("%s: %s has %d CPUs, the host %d", r.host, name, machine.VCPUs, r.cpus+r.used),
			Fix:  "dut.vcpus of at most that",
		}
	}
	r.memory -= need
	r.cpus -= machine.VCPUs
	r.used += machine.VCPUs
	return nil
}
