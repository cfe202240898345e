package forecast

import (
	"cmp"
	"math"
	"testing"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// forecasts returns those of a shipped experiment, by scenario.
func forecasts(t *testing.T, name string) map[string]results.Forecast {
	t.Helper()
	experiment, _, err := scenarios.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]results.Forecast{}
	for _, f := range Scenarios(experiment.Topology, experiment.Resolve(), 0.75) {
		byName[f.Scenario] = f
	}
	return byName
}

func TestForecast(t *testing.T) {
	list := forecasts(t, "table-full")
	for _, tc := range []struct {
		scenario       string
		tracked, needs bool
		table          kernels.Size
		peak           int64
	}{
		{"baseline", true, true, kernels.Size{Max: 4096, Buckets: 4096}, 4096},
		{"raised-max", true, false, kernels.Size{Max: 262144, Buckets: 65536}, 5000},
		{"shortened-timeouts", true, true, kernels.Size{Max: 4096, Buckets: 4096}, 4096},
		{"raw-notrack", false, false, kernels.Size{Max: 4096, Buckets: 4096}, 0},
	} {
		f := list[tc.scenario]
		if f.Tracked != tc.tracked || (f.Plan != nil) != tc.needs || f.Table != tc.table ||
			math.Abs(float64(f.Prediction.Peak-tc.peak)) > 0.03*float64(tc.peak) {
			t.Errorf("%s: %+v; want %+v", tc.scenario, f, tc)
		}
	}
	if f := list["baseline"]; f.Plan.Size.Max != 8192 || len(f.Plan.Sysctl) != 2 {
		t.Errorf("a table for 5000 entries: %+v", f.Plan)
	}
}

// TestForecastOfFewPorts: what a generator cannot make is not predicted.
func TestForecastOfFewPorts(t *testing.T) {
	list := forecasts(t, "generator-limit")
	for name, peak := range map[string]int64{"200-ports": 200, "more-addresses": 500} {
		if f := list[name]; f.Prediction.Peak != peak {
			t.Errorf("%s: a peak of %d is predicted, not %d", name, f.Prediction.Peak, peak)
		}
	}
}

func TestAssumedState(t *testing.T) {
	rules := "*filter\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT"
	for _, tc := range []struct {
		name    string
		dut     scenarios.Configuration
		size    kernels.Size
		tracked bool
	}{
		{"the kernel's own", scenarios.Configuration{Kernel: "debian/bookworm", Memory: 512 << 20,
			Rules: rules}, kernels.Size{Max: 4096, Buckets: 4096}, true},
		{"an older kernel's", scenarios.Configuration{Kernel: "debian/bullseye", Memory: 512 << 20,
			Rules: rules}, kernels.Size{Max: 16384, Buckets: 4096}, true},
		{"nothing tracks", scenarios.Configuration{Kernel: "/boot/vmlinuz-6.12.0", Memory: 2 << 30},
			kernels.Size{Max: 65536, Buckets: 65536}, false},
		{"a parameter of the module", scenarios.Configuration{
			Kernel: "debian/bookworm", Memory: 512 << 20,
			Modules: scenarios.Modules{Load: []string{"nf_conntrack hashsize=1024 enable_hooks=1"}},
		}, kernels.Size{Max: 8192, Buckets: 1024}, true},
		{"settings", scenarios.Configuration{
			Kernel: "debian/bookworm", Memory: 512 << 20, Buckets: 512, Rules: rules,
			Sysctl: scenarios.Settings{{Key: "net.netfilter.nf_conntrack_max", Value: "1000"},
				{Key: "net.netfilter.nf_conntrack_udp_timeout", Value: "5"}},
		}, kernels.Size{Max: 1000, Buckets: 512}, true},
	} {
		state := assumedState(tc.dut, kernels.Named(tc.dut.Kernel),
			kernels.VisibleMemory(int64(tc.dut.Memory)))
		if got := (kernels.Size{Max: state.Max, Buckets: state.Buckets}); got != tc.size ||
			(state.Tracking.IPv4 == "yes") != tc.tracked {
			t.Errorf("%s: %+v, tracking %s; want %+v, %v", tc.name, got, state.Tracking.IPv4,
				tc.size, tc.tracked)
		}
		if tc.name == "settings" && state.Timeouts[kernels.Prefix+"udp_timeout"] != 5 {
			t.Errorf("udp timeout %d, want 5", state.Timeouts[kernels.Prefix+"udp_timeout"])
		}
	}
}

// TestAssumedTracking checks each family separately.
func TestAssumedTracking(t *testing.T) {
	const rules = "*filter\n-A INPUT -m connbytes --connbytes 9: -j ACCEPT\nCOMMIT"
	for _, tc := range []struct {
		name       string
		dut        scenarios.Configuration
		ipv4, ipv6 tuning.Answer
	}{
		{"rules", scenarios.Configuration{Rules: rules}, tuning.Yes, tuning.No},
		{"rules6", scenarios.Configuration{Rules6: rules}, tuning.No, tuning.Yes},
		{"nft",
			scenarios.Configuration{NFT: "table inet t { chain c { ct original ip saddr " +
				"192.0.2.1; }; }"}, tuning.Yes, tuning.Yes},
		{"a module",
			scenarios.Configuration{Modules: scenarios.Modules{Load: []string{"nf_conntrack " +
				"enable_hooks=1"}}}, tuning.Yes, tuning.Yes},
		{"an old kernel", scenarios.Configuration{Kernel: "/boot/vmlinuz-4.9.0"}, tuning.Yes,
			tuning.Yes},
	} {
		got := assumedState(tc.dut, kernels.Named(cmp.Or(tc.dut.Kernel, "debian/bookworm")),
			512<<20).Tracking
		if got.IPv4 != tc.ipv4 || got.IPv6 != tc.ipv6 {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}
