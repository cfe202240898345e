package orchestrator

import (
	"cmp"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// configuration converts the requested configuration for the report.
func configuration(dut scenarios.Configuration) results.Configuration {
	c := results.Configuration{
		Kernel: dut.Kernel, VCPUs: dut.VCPUs, MemoryBytes: int64(dut.Memory),
		Buckets: int(dut.Buckets), Rules: dut.Rules, Rules6: dut.Rules6,
		NFT: dut.NFT, IPSet: dut.IPSet, IPVS: dut.IPVS,
	}
	if len(dut.Sysctl) > 0 {
		c.Sysctl = map[string]string{}
	}
	for _, setting := range dut.Sysctl {
		c.Sysctl[setting.Key] = setting.Value
	}
	return c
}

// phases converts the phases of the load for the report.
func phases(all scenarios.Phases) []results.Phase {
	var list []results.Phase
	for _, phase := range all {
		start, _ := all.Start(phase.Name)
		list = append(list, results.Phase{
			Name: phase.Name, Start: start.Seconds(), Seconds: phase.Length.Seconds(),
		})
	}
	return list
}

// workload returns the entries and the probes of a scenario, without figures.
func workload(list []wiring.Assignment) results.Workload {
	w := results.Workload{
		Entries: map[string]results.Entry{}, Probes: map[string]results.Probe{},
	}
	for _, a := range list {
		if a.Probe {
			w.Probes[a.Entry.Name] = results.Probe{Kind: string(a.Entry.Probe), From: a.Node}
			continue
		}
		e := results.Entry{
			Kind: string(a.Entry.Generator), Role: results.Role(a.Entry.Role), From: a.Node,
			Attempts: results.Attempts{Unit: a.Spec.Kind.Unit()},
		}
		if a.Spec.OneWay() {
			e.Sent = new(int64)
		} else {
			e.Completed = new(int64)
		}
		w.Entries[a.Entry.Name] = e
	}
	return w
}

// attempts converts what generators did for the report.
func attempts(r generators.Result, unit string, oneWay bool) results.Attempts {
	a := results.Attempts{
		Unit: unit, Offered: r.Offered, Failed: r.Failed, Broken: r.Broken, Missed: r.Missed,
		Seconds: r.Elapsed.Seconds(), Begins: r.OfferedRate(), Late: r.LateShare(),
		Connect: distribution(r.Connect), Latency: distribution(r.Total),
		Causes: maps.Clone(r.Causes), BurstWidth: milliseconds(r.Widths.Longest),
	}
	if oneWay {
		a.Sent = &r.Completed
	} else {
		a.Completed, a.Rate = &r.Completed, r.Rate()
	}
	for _, limit := range r.Limits {
		a.Limits = append(a.Limits, limit.String())
	}
	return a
}

func distribution(h *latency.Histogram) results.Latency {
	if h == nil || h.Count() == 0 {
		return results.Latency{}
	}
	return results.Latency{
		Count: h.Count(), Mean: milliseconds(h.Mean()),
		P50: milliseconds(h.Quantile(0.5)), P90: milliseconds(h.Quantile(0.9)),
		P99: milliseconds(h.Quantile(0.99)), P999: milliseconds(h.Quantile(0.999)),
		Max: milliseconds(h.Max()),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

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
	missing := func(name string) bool { return !slices.Contains(trial, name) }
	return slices.DeleteFunc(slices.Clone(earlier), missing)
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

// silences returns the longest time that each entry of the load plans between two packets of a
// connection or flow.
func silences(entries []wiring.Assignment) (list []results.Silence) {
	for _, a := range entries {
		silence := results.Silence{Entry: a.Name, Protocol: "tcp"}
		switch s := a.Spec; s.Kind {
		case generators.Hold, generators.TCP:
			held := s.Lifetime.Mean
			if s.Kind == generators.Hold {
				held = cmp.Or(held, s.Duration)
			}
			if s.Interval > 0 && s.Payload > 0 {
				held = min(held, s.Interval)
			}
			silence.Seconds = held.Seconds()
		case generators.UDP:
			silence.Protocol = "udp"
			if s.Exchanges > 1 || s.Lifetime.Mean > 0 {
				silence.Seconds = s.Interval.Seconds()
			}
		}
		if silence.Seconds > 0 {
			list = append(list, silence)
		}
	}
	return list
}
