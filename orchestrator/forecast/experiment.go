package forecast

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

// These bound an experiment that measures a planned load: what an emulated guest takes with ease.
const (
	labRate    = 500.0 // new flows a second
	labHeld    = 5000.0
	labSeconds = 180.0 // of load
)

// kinds are the loads that leave an entry in a state: the entry of a workload, and the timeout of
// that state.
var kinds = []struct{ state, entry, timeout string }{
	{"time_wait", "generator: tcp", "tcp_timeout_time_wait"},
	{"close", "generator: tcp, close: rst", "tcp_timeout_close"},
	{"udp", "generator: udp, silent: true", "udp_timeout"},
	{"close_wait", "generator: tcp, close: half-close", "tcp_timeout_close_wait"},
	{"syn_recv", "generator: syn", "tcp_timeout_syn_recv"},
	{"syn_sent", "generator: tcp, listener: full, timeout: 1s", "tcp_timeout_syn_sent"},
	{"established", "generator: tcp, close: abandon", "tcp_timeout_established"},
	{"icmp", "generator: icmp", "icmp_timeout"},
}

// kindsOf returns the kind of load for each pair: the kind of the state that it names. A pair
// without a name gets the next kind that no pair names and whose timeout can be set to any time.
func kindsOf(pairs []results.Pair) (list []int, err error) {
	named := func(p results.Pair) int {
		for i, k := range kinds {
			if k.state == p.State {
				return i
			}
		}
		return -1
	}
	taken := map[int]bool{}
	for _, p := range pairs {
		taken[named(p)] = true
	}
	for _, p := range pairs {
		kind := named(p)
		if kind < 0 {
			for kind = 0; kind < len(kinds) && taken[kind]; {
				kind++
			}
			if kind == len(kinds) {
				return nil, fmt.Errorf("an experiment has at most %d lives of entries", len(kinds))
			}
			taken[kind] = true
		}
		list = append(list, kind)
	}
	return list, nil
}

// Experiment returns an experiment that measures a planned load: the present table beside the
// planned one, which may neither refuse nor evict anything, all scaled down to what a lab carries.
// The ratio of load to table stays as it is, and so do the times, since the kernel's garbage
// collector keeps its own.
func Experiment(f results.Flows, p results.Plan) (string, error) {
	list, err := kindsOf(f.Pairs)
	if err != nil {
		return "", err
	}
	rate, longest := 0.0, 0.0
	for _, pair := range f.Pairs {
		rate += pair.Rate
		longest = max(longest, pair.Residence)
	}
	scale := max(1, math.Ceil(rate/labRate), math.Ceil(float64(f.Held)/labHeld))
	seconds := math.Ceil(min(labSeconds, max(10, 1.2*longest)))
	scaled := func(n int64) int64 { return max(1, int64(math.Ceil(float64(n)/scale))) }
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by ctload plan: %s.", f.Words())
	if scale > 1 {
		line("# Rates, entries and tables are those divided by %v.", scale)
	}
	if longest > seconds {
		line("# Its entries live for up to %s s and the load lasts for %v s: divide the timeouts "+
			"and", results.Figure(longest), seconds)
		line("# the sizes of the tables by the same number to see more of it.")
	}
	line("experiment: planned")
	if f.NATPorts > 0 {
		line("topology: router")
	}
	line("dut:\n  memory: 512MiB\n  rules: |")
	if f.NATPorts > 0 {
		last := min(1<<16-1, 1<<10-1+scaled(f.NATPorts))
		line("    *nat\n    -A POSTROUTING -o ${server.interface} -j SNAT "+
			"--to-source ${dut.server.address}:1024-%d\n    COMMIT", last)
	} else {
		line("    *filter\n    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n    COMMIT")
	}
	var timeouts []string
	for i, pair := range f.Pairs {
		if k := kinds[list[i]]; !slices.Contains(list[:i], list[i]) {
			timeouts = append(timeouts,
				fmt.Sprintf("    %s%s: %.0f", kernels.Prefix, k.timeout, max(1, pair.Residence)))
		}
	}
	if len(timeouts) > 0 {
		line("  sysctl:\n%s", strings.Join(timeouts, "\n"))
	}
	line("workload:")
	start := ""
	if f.Held > 0 {
		held := scaled(f.Held)
		opens := math.Ceil(float64(held) / labRate)
		line("  - {generator: hold, name: held, connections: %d, rate: %v/s, duration: %vs, "+
			"ports: 7999}", held, labRate, seconds+opens)
		start = fmt.Sprintf(", start: %vs", opens)
	}
	for i, pair := range f.Pairs {
		k, port := kinds[list[i]], fmt.Sprintf(", ports: %d", 8000+i)
		if k.state == "icmp" {
			port = ""
		}
		rate := strconv.FormatFloat(max(0.01, math.Round(pair.Rate/scale*100)/100), 'f', -1, 64)
		line("  - {%s, name: load-%d, rate: %s/s, duration: %vs%s%s}",
			k.entry, i+1, rate, seconds, start, port)
	}
	line("  - {probe: tcp, port: 22, rate: 10/s}\nscenarios:")
	table := func(name string, size kernels.Size) {
		line("  %s:\n    sysctl: {%s: %d}\n    buckets: %d", name, kernels.KeyMax,
			scaled(size.Max), scaled(size.Buckets))
	}
	present, _ := p.Present()
	table("present", present)
	judged := "present"
	if p.Size != present {
		judged = "planned"
		table(judged, p.Size)
	}
	line("thresholds:\n  %s: [conntrack.drop == 0, conntrack.early_drop == 0]", judged)
	return b.String(), nil
}
