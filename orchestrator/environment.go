package orchestrator

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// environment describes the host of a run. A field stays empty where the host does not tell: it
// explains figures and decides nothing.
func environment(lab vm.About) results.Environment {
	e := results.Environment{
		Driver: lab.Driver, Accelerator: lab.Accelerator, AcceleratorNote: lab.AcceleratorNote,
		Box: lab.Box, BoxVersion: lab.BoxVersion, QEMU: lab.QEMU, Libvirt: lab.Libvirt,
		HostCPUs: runtime.NumCPU(), HostCPU: cpuModel(),
	}
	if h := lab.Host; h != nil {
		e.HostCPU, e.HostCPUs, e.HostMemoryBytes = h.CPU, h.CPUs, h.MemoryBytes
		return e
	}
	e.HostKernel = kernels.Running()
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		e.HostMemoryBytes = int64(info.Totalram) * int64(info.Unit)
		for _, load := range info.Loads {
			e.HostLoad = append(e.HostLoad, math.Round(float64(load)/loadUnit*100)/100)
		}
	}
	return e
}

// loadUnit is a load of 1 in sysinfo(2): 1 << SI_LOAD_SHIFT.
const loadUnit = 1 << 16

// moduleNames returns the names of the modules that a node has loaded.
func moduleNames(state tuning.State) []string {
	names := make([]string, len(state.Modules))
	for i, m := range state.Modules {
		names[i] = m.Name
	}
	return names
}

// inAll returns the names that are in both lists; without an earlier list, those of the trial.
func inAll(earlier, trial []string) []string {
	if earlier == nil {
		return trial
	}
	return slices.DeleteFunc(slices.Clone(earlier), func(name string) bool { return !slices.Contains(trial, name) })
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
