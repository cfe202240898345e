package reports

import (
	"strings"
	"time"

	"github.com/ctload/ctload/results"
)

func seconds(s float64) *float64 { return &s }

// trial makes a trial of the fixture and judges it, so that the sentences are the real ones.
func trial(
	conf results.Configuration, load results.Attempts, ct results.Conntrack,
) results.Trial {
	t := results.Trial{
		Number: 1, Seconds: load.Seconds, Kernel: "6.1.0-37-cloud-amd64", Conntrack: ct,
		Load:    &results.Load{Generator: "http", Attempts: load},
		Entries: map[string]results.Entry{"http": {Kind: "http", From: "client", Attempts: load}},
	}
	if rule := "-A PREROUTING -p tcp --dport 80 -j NOTRACK"; strings.Contains(conf.Rules, rule) {
		t.Rules = []results.RuleCount{{
			Family: "ip", Table: "raw", Chain: "PREROUTING", Text: rule, Effect: results.Untracks,
			After: 20000,
		}}
	}
	results.Judge(&t)
	return t
}

func latency(p50, p99, slowest float64) results.Latency {
	return results.Latency{
		Count: 5000, Mean: p50, P50: p50, P90: p99 / 2, P99: p99, P999: slowest, Max: slowest,
	}
}

func load(failed int64, seconds float64, connect results.Latency) results.Attempts {
	l := results.Attempts{
		Unit: "requests", Offered: 5000, Completed: new(5000 - failed),
		Failed:  failed,
		Seconds: seconds, Rate: float64(5000-failed) / seconds, Connect: connect, Latency: connect,
	}
	if failed > 0 {
		l.Causes = map[string]int64{results.CauseTimeout: failed}
	}
	return l
}

const stateful = "*filter\n-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n"

// fixture returns a run as `ctload run table-full` makes it, with plausible figures.
func fixture() *results.Run {
	var (
		base = results.Configuration{
			Kernel: "debian/bookworm", VCPUs: 1, MemoryBytes: 512 << 20, Rules: stateful,
		}
		raised = results.Configuration{
			Kernel: "debian/bookworm", VCPUs: 1, MemoryBytes: 512 << 20, Rules: stateful,
			Buckets: 65536, Sysctl: map[string]string{"net.netfilter.nf_conntrack_max": "262144"},
		}
		shorter = results.Configuration{
			Kernel: "debian/bookworm", VCPUs: 1, MemoryBytes: 512 << 20, Rules: stateful,
			Sysctl: map[string]string{"net.netfilter.nf_conntrack_tcp_timeout_time_wait": "5"},
		}
		exempt = results.Configuration{
			Kernel: "debian/bookworm", VCPUs: 1, MemoryBytes: 512 << 20,
			Rules: "*raw\n-A PREROUTING -p tcp --dport 80 -j NOTRACK\n" +
				"-A OUTPUT -p tcp --sport 80 -j NOTRACK\nCOMMIT\n",
		}
	)
	return &results.Run{
		Schema: results.SchemaVersion, ID: "20261120-123000-7f3a", Experiment: "table-full",
		Summary: "short HTTP connections against a tracked web server whose table is smaller " +
			"than the load",
		Ctload: "v0.1.0", Started: time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC), Seconds: 98.4,
		Seed: 42,
		Environment: results.Environment{
			Driver: "libvirt", Accelerator: "tcg", AcceleratorNote: "/dev/kvm is missing",
			Kernel: "6.1.0-37-cloud-amd64",
			QEMU:   "7.2.17", Libvirt: "9.0.0", HostKernel: "6.18.5", HostCPU: "Xeon", HostCPUs: 2,
			HostMemoryBytes: 24 << 30,
		},
		Scenarios: []results.Scenario{
			{Name: "baseline", Configuration: base, Trials: []results.Trial{trial(base,
				load(904, 31.2, latency(3.1, 1043, 7180)),
				results.Conntrack{
					Tracked: true, Counters: results.Counters{Drop: 3616, EarlyDrop: 17},
					Baseline: 0, Peak: 4096, Final: 3890, Max: 4096, Buckets: 4096,
					LogLines: 10, LogSupp: 220, SecondsToFull: seconds(4.2),
					FirstDrop: seconds(4.3), SecondsToRecover: seconds(7.1),
					Alerts: []results.Alert{
						{Share: 0.75, Fired: 3.1, Lead: seconds(1.2)},
						{Share: 0.95, Fired: 4, Lead: seconds(0.3)},
					},
				})}},
			{Name: "raised-max", Configuration: raised, Trials: []results.Trial{trial(raised,
				load(0, 8.1, latency(2.9, 48.2, 1031)),
				results.Conntrack{
					Tracked: true, Peak: 5004, Final: 5003, Max: 262144, Buckets: 65536,
				})}},
			{Name: "shortened-timeouts", Configuration: shorter, Trials: []results.Trial{trial(
				shorter,
				load(212, 24.9, latency(3.0, 1039, 7004)),
				results.Conntrack{
					Tracked: true, Counters: results.Counters{Drop: 848}, Peak: 4096, Final: 1102,
					Max: 4096, Buckets: 4096,
					LogLines: 10, SecondsToFull: seconds(4.4),
				})}},
			{Name: "raw-notrack", Configuration: exempt, Trials: []results.Trial{trial(exempt,
				load(0, 6.4, latency(2.2, 31.7, 88)),
				results.Conntrack{Tracked: true, Peak: 6, Final: 4, Max: 4096, Buckets: 4096})}},
		},
	}
}
