package orchestrator

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// environment is the host that a run happens on. What cannot be read is left empty: it explains
// figures and decides nothing.
func environment(lab vm.About) results.Environment {
	e := results.Environment{
		Driver: lab.Driver, Accelerator: lab.Accelerator, AcceleratorNote: lab.AcceleratorNote,
		QEMU: lab.QEMU, Libvirt: lab.Libvirt,
		HostCPUs: runtime.NumCPU(), HostCPU: cpuModel(),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.HostKernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		e.HostMemoryBytes = int64(info.Totalram) * int64(info.Unit)
	}
	return e
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
