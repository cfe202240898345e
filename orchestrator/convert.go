package orchestrator

import (
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// configuration converts the requested configuration for the report.
func configuration(dut scenarios.Configuration) results.Configuration {
	c := results.Configuration{
		Kernel: dut.Kernel, VCPUs: dut.VCPUs, MemoryBytes: int64(dut.Memory),
		Buckets: int(dut.Buckets), Rules: dut.Rules, Rules6: dut.Rules6, NFT: dut.NFT, IPVS: dut.IPVS,
	}
	for _, setting := range dut.Sysctl {
		if c.Sysctl == nil {
			c.Sysctl = map[string]string{}
		}
		c.Sysctl[setting.Key] = setting.Value
	}
	return c
}

// phases converts the phases of the load for the report.
func phases(all scenarios.Phases) []results.Phase {
	var list []results.Phase
	for _, phase := range all {
		start, _ := all.Start(phase.Name)
		list = append(list, results.Phase{Name: phase.Name, Start: time.Duration(start).Seconds(), Seconds: time.Duration(phase.Length).Seconds()})
	}
	return list
}

// load sums up for the report what the generators did together.
func load(names []string, r generators.Result) results.Load {
	l := results.Load{
		Generator: strings.Join(names, "+"), Unit: r.Unit,
		Offered: r.Offered, Completed: r.Completed, Failed: r.Failed, Broken: r.Broken,
		Seconds: r.Elapsed.Seconds(), Rate: r.Rate(), Late: r.LateShare(),
		Connect: distribution(r.Connect), Latency: distribution(r.Total),
	}
	for _, limit := range r.Limits {
		l.Limits = append(l.Limits, limit.String())
	}
	for cause, n := range r.Causes {
		if l.Causes == nil {
			l.Causes = map[string]int64{}
		}
		l.Causes[cause] = n
	}
	return l
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

// dmesgLine formats a record of the kernel log as dmesg prints it.
func dmesgLine(r samplers.Record) string {
	return fmt.Sprintf("[%12.6f] %s\n", r.Time.Seconds(), r.Message)
}
