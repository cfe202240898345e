package orchestrator

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// predict says before the load what it will make of the table, from the workload and from what the
// kernel says that it is set to. age is the time since nf_conntrack was loaded: its garbage collector
// scans a second after that, and every minute while the table is idle.
func predict(entries []assignment, workload []scenarios.Entry, before tuning.State, dut scenarios.Configuration, age time.Duration) *results.Prediction {
	scan := math.Mod(61-math.Mod(age.Seconds(), 60), 60)
	e := results.Expectation{Max: before.Max, Buckets: before.Buckets, Baseline: max(0, before.Count), NextScan: &scan}
	open := true // whether all of the load has a rate
	var weighted float64
	for _, a := range entries {
		entry := entryOf(workload, a)
		if a.probe || before.Tracking.IPv4 == tuning.No || exempt(dut, entry) {
			continue
		}
		rate := a.spec.Rate
		if rate == 0 {
			open = false
		}
		e.Entries += a.spec.Count
		if a.spec.Count == 0 && rate > 0 {
			e.Entries += int64(rate * a.spec.Duration.Seconds())
		}
		e.Rate += rate
		weighted += max(rate, 1) * residence(entry, before.Timeouts)
		e.Duration = max(e.Duration, a.spec.Duration.Seconds())
		e.Residence += max(rate, 1)
	}
	if e.Residence > 0 {
		e.Residence = weighted / e.Residence
	}
	if !open {
		e.Rate = 0
	}
	if entriesHold(workload) {
		e.Residence = 0
	}
	p := results.Predict(e)
	return &p
}

func entryOf(workload []scenarios.Entry, a assignment) scenarios.Entry {
	i := slices.IndexFunc(workload, func(e scenarios.Entry) bool { return e.Name == a.name || strings.HasPrefix(a.name, e.Name+"-ipv") })
	return workload[max(0, i)]
}

func entriesHold(workload []scenarios.Entry) bool {
	return slices.ContainsFunc(workload, func(e scenarios.Entry) bool { return e.Generator == scenarios.Hold })
}

// residence is how long an entry lives in seconds, by the state in which the load leaves it (the
// kernel's timeouts of nf_conntrack_proto_tcp.c and its siblings). The connection itself is short
// beside its timeout.
func residence(e scenarios.Entry, timeouts map[string]int64) float64 {
	state := ""
	switch e.Generator {
	case scenarios.HTTP, scenarios.TCP:
		state = map[scenarios.Close]string{
			scenarios.CloseRST: "tcp_timeout_close", scenarios.CloseAbandon: "tcp_timeout_established",
			scenarios.CloseHalf: "tcp_timeout_close_wait",
		}[e.Close]
		if state == "" {
			state = "tcp_timeout_time_wait"
		}
	case scenarios.Hold, scenarios.Handshake:
		state = "tcp_timeout_established"
	case scenarios.SYN: // a listener answers: SYN_RECV
		state = "tcp_timeout_syn_recv"
	case scenarios.UDP: // a stream only after two seconds of conversation
		state = "udp_timeout"
	case scenarios.ICMP:
		state = "icmp_timeout"
	}
	return float64(timeouts["net.netfilter.nf_conntrack_"+state])
}

// exempt reports whether the rules of the raw table, or an nft script, take all of an entry's ports out
// of tracking. Rules are read as text, so that an exotic one is missed: the prediction is then wrong,
// and says so by its error.
func exempt(dut scenarios.Configuration, e scenarios.Entry) bool {
	ports := e.Ports.Expand()
	if len(ports) == 0 {
		return false
	}
	for _, port := range ports {
		if !slices.ContainsFunc(strings.Split(dut.Rules+"\n"+dut.NFT, "\n"), func(line string) bool {
			return untracks(line, port)
		}) {
			return false
		}
	}
	return true
}

// untracks reports whether a rule exempts what goes to a port.
func untracks(rule string, port uint16) bool {
	words := strings.FieldsFunc(rule, func(r rune) bool { return strings.ContainsRune(" \t,{}", r) })
	lower := strings.ToLower(rule)
	if !strings.Contains(lower, "notrack") || len(words) > 0 && strings.HasPrefix(words[0], "#") {
		return false
	}
	inPorts := false
	all := true
	for _, word := range words {
		switch word {
		case "--dport", "--dports", "--destination-port", "dport":
			inPorts, all = true, false
			continue
		}
		var r scenarios.PortRange
		if inPorts && r.UnmarshalText([]byte(strings.ReplaceAll(word, ":", "-"))) == nil {
			if port >= uint16(r.First) && port <= uint16(r.Last) {
				return true
			}
			continue
		}
		inPorts = false
	}
	return all && !strings.Contains(rule, "sport")
}
