package forecast

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
)

// situation holds the state of the DUT that decides which entries a flow makes. Actions change it.
type situation struct {
	rules    rules.Ruleset
	timeouts map[string]int64 // by key
	own      map[string]int64 // the kernel's own ones, which policies take
	tracked  map[scenarios.Family]bool
	loose    bool // nf_conntrack_tcp_loose
	topology scenarios.Topology
	dut      *scenarios.Configuration
}

// situationOf returns the situation of a DUT whose kernel reports a state.
func situationOf(c Case) situation {
	dut, state := c.Scenario.DUT, c.State
	version := kernels.Named(dut.Kernel)
	if v, err := kernels.Parse(state.Release); err == nil {
		version = v
	}
	loose, ok := state.Sysctl[kernels.Prefix+"tcp_loose"]
	if !ok {
		loose, ok = dut.Sysctl.Get(kernels.Prefix + "tcp_loose")
	}
	return situation{
		rules: dut.Ruleset(), timeouts: state.Timeouts, own: kernels.Timeouts(version),
		loose: !ok || loose != "0",
		tracked: map[scenarios.Family]bool{
			scenarios.IPv4: state.Tracking.IPv4 != tuning.No,
			scenarios.IPv6: state.Tracking.IPv6 != tuning.No,
		},
		topology: c.Topology, dut: &dut,
	}
}

// flow returns the first packet of the flows of an assignment to a port, with the addresses that
// the lab gives them.
func (s situation) flow(a wiring.Assignment, port uint16) rules.Flow {
	f := a.Entry.Flow(s.topology, s.dut, a.Family, port)
	if source := a.Source(); source.IsValid() {
		f.From = source
	}
	if target, err := netip.ParseAddr(a.Spec.Target); err == nil {
		f.To = netip.PrefixFrom(target, target.BitLen())
	}
	return f
}

// portsOf returns the ports that an assignment goes to: 0 alone for a protocol without ports.
func portsOf(a wiring.Assignment) []uint16 {
	if len(a.Spec.Ports) == 0 {
		return []uint16{0}
	}
	return a.Spec.Ports
}

// states returns the states of the entries that an assignment's flows to a port make, none where
// they make none.
func (s situation) states(a wiring.Assignment, port uint16) []occupancy.State {
	if !s.tracked[a.Family] {
		return nil
	}
	flow := s.flow(a, port)
	there, back := s.seen(flow)
	timeout := s.timeout(flow)
	switch a.Transport() {
	case generators.ProtocolUDP:
		answered := !a.Entry.Silent && a.Entry.Listener != scenarios.ListenerClosed
		if there || back && answered {
			return conversation(a, there && back && answered, timeout)
		}
	case generators.ProtocolICMP:
		key := "icmp_timeout"
		if a.Family == scenarios.IPv6 {
			key = "icmpv6_timeout"
		}
		if there { // an echo reply makes no entry
			return one("", timeout(key, "timeout"), occupancy.Evictable)
		}
	default:
		tcp := func(state string) float64 { return timeout("tcp_timeout_"+state, state) }
		switch {
		case there && back:
			return connection(a, tcp)
		case there:
			return one("SYN_SENT", tcp("syn_sent"), occupancy.Evictable)
		case back && s.loose:
			return pickedUp(a, tcp)
		}
	}
	return nil
}

// seen reports whether the kernel tracks the packets of a flow, and the answers to them. It tracks
// none of a flow whose first packet rules refuse: they do so before it confirms the entry.
func (s situation) seen(flow rules.Flow) (there, back bool) {
	request, answer := s.rules.Directions(flow)
	if request.Refused == rules.Surely {
		return false, false
	}
	return request.Untracked < rules.Surely, answer.Untracked < rules.Surely
}

// refusal returns how rules surely refuse the flows of an assignment to a port behind tracking.
func (s situation) refusal(a wiring.Assignment, port uint16) occupancy.Refusal {
	fate := s.rules.Fate(s.flow(a, port))
	switch {
	case !s.tracked[a.Family] || fate.Refused < rules.Surely || fate.Unseen ||
		fate.Untracked == rules.Surely:
		return occupancy.Accepted
	case fate.Refusing.Rule != nil && fate.Refusing.Rule.Verdict == "REJECT":
		return occupancy.Rejected
	}
	return occupancy.Dropped
}

// oneWay reports whether the kernel sees the answers to an assignment's flows to a port alone.
func (s situation) oneWay(a wiring.Assignment, port uint16) bool {
	there, back := s.seen(s.flow(a, port))
	return back && !there
}

// translates reports whether NAT has chains for a family: the kernel then looks for a free tuple
// for each flow.
func (s situation) translates(family scenarios.Family) bool {
	other := rules.IPv6
	if family == scenarios.IPv6 {
		other = rules.IPv4
	}
	return slices.ContainsFunc(s.rules.Tables, func(t *rules.Table) bool {
		return t.Family != other && slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
			return c.Type == "nat"
		})
	})
}

func one(name string, timeout float64, class occupancy.Class) []occupancy.State {
	return []occupancy.State{{Name: name, Timeout: timeout, Class: class}}
}

// timeout returns the timeouts of a flow's entries, by the key of the sysctl and by the word of
// policies. A policy takes what it leaves out from the kernel's own, since rules are loaded before
// sysctls are set.
func (s situation) timeout(flow rules.Flow) func(key, word string) float64 {
	policy, from := s.rules.Timeouts(flow), s.timeouts
	if policy != nil {
		from = s.own
	}
	return func(key, word string) float64 {
		if seconds, ok := policy[word]; ok {
			return float64(seconds)
		}
		return float64(from[kernels.Prefix+key])
	}
}

// stream is the age, in seconds, from which a conversation of datagrams counts as a stream: its
// entry is then ASSURED and has a timeout of its own (nf_conntrack_udp_packet, Linux 5.0).
const stream = 2

// conversation returns the states of a flow of datagrams; both tells whether the kernel sees them
// both ways.
func conversation(
	a wiring.Assignment, both bool, timeout func(key, word string) float64,
) []occupancy.State {
	unreplied, interval := timeout("udp_timeout", "unreplied"), a.Spec.Interval.Seconds()
	list := one("UNREPLIED", unreplied, occupancy.Evictable)
	open, spread := opened(a)
	if open == 0 {
		open = float64(a.Spec.Exchanges-1) * interval
	}
	if open <= 0 {
		return list
	}
	talks := one("", unreplied, occupancy.Evictable)
	talks[0].Lasts, talks[0].Spread = open, spread
	if interval < unreplied {
		talks[0].Timeout = math.Inf(1) // it begins again with each datagram
	}
	if both && open > stream {
		list = one("ASSURED", timeout("udp_timeout_stream", "replied"), occupancy.Kept)
	}
	return append(talks, list...)
}

// closing is the state in which a load leaves a connection, by how it closes it.
var closing = map[scenarios.Close]struct {
	name, key string
	class     occupancy.Class
}{
	scenarios.CloseRST:     {"CLOSE", "close", occupancy.Closing},
	scenarios.CloseAbandon: {"ESTABLISHED", "established", occupancy.Kept},
	scenarios.CloseHalf:    {"CLOSE_WAIT", "close_wait", occupancy.Closing},
	scenarios.CloseFIN:     {"TIME_WAIT", "time_wait", occupancy.Closing},
}

// connection returns the states of a TCP connection that the kernel sees both ways
// (nf_conntrack_proto_tcp.c). The handshake and the packets of the end are instants.
func connection(a wiring.Assignment, timeout func(string) float64) []occupancy.State {
	e := a.Entry
	switch {
	case e.Listener == scenarios.ListenerClosed:
		return nil // a reset ends the entry at once
	case e.Listener == scenarios.ListenerFull:
		return one("SYN_SENT", timeout("syn_sent"), occupancy.Evictable)
	case e.Probe == "" && !e.Generator.Fact().Assured: // a listener answers
		return one("SYN_RECV", timeout("syn_recv"), occupancy.Evictable)
	}
	end := e.Close
	if e.Probe != "" {
		end = scenarios.CloseRST
	}
	last, ok := closing[end]
	if !ok {
		last = closing[scenarios.CloseFIN]
	}
	list := one(last.name, timeout(last.key), last.class)
	if open, spread := opened(a); open > 0 {
		idle := timeout("established")
		if e.Interval > 0 && e.Interval.Seconds() < idle || e.KeepAlive {
			idle = math.Inf(1) // it talks: its timeout begins again with each packet
		}
		held := one("ESTABLISHED", idle, occupancy.Kept)
		held[0].Lasts, held[0].Spread = open, spread
		list = append(held, list...)
	}
	return list
}

// lives is into how many equal parts a distribution of lives is divided.
const lives = 16

// opened returns for how many seconds connections stay open and flows of datagrams go on: the mean,
// 0 where they end at once, and the quantiles where they differ. The last quantile stands for the
// tail, so that the mean is kept.
func opened(a wiring.Assignment) (mean float64, spread []float64) {
	life := a.Spec.Lifetime
	switch {
	case a.Entry.KeepAlive:
		return a.Spec.Duration.Seconds(), nil
	case life.None() || life.Shape == lifetimes.Fixed:
		return life.Average().Seconds(), nil
	}
	mean = life.Average().Seconds()
	tail := lives * mean
	for i := range lives - 1 {
		q := life.Quantile((float64(i) + 0.5) / lives).Seconds()
		spread = append(spread, q)
		tail -= q
	}
	return mean, append(spread, max(spread[lives-2], tail))
}

// pickedUp returns the states of a connection of which the kernel sees the answers alone. A SYN-ACK
// makes no entry; the target's first ACK does, and it stays unreplied, so that it is never ASSURED
// and keeps no longer than tcp_timeout_unacknowledged. Its FIN leaves it in FIN_WAIT, from where an
// ACK moves it to CLOSE_WAIT.
func pickedUp(a wiring.Assignment, timeout func(string) float64) []occupancy.State {
	e := a.Entry
	answers := e.Generator == scenarios.HTTP || e.Payload > 0
	closes := e.Close == scenarios.CloseFIN || e.Close == "" || e.Close == scenarios.CloseHalf
	switch {
	case e.Listener != "" && e.Listener != scenarios.ListenerOpen,
		!e.Generator.Fact().Assured, e.Probe != "", !answers && !closes:
		return nil
	}
	unacknowledged := min(timeout("established"), timeout("unacknowledged"))
	if !closes {
		return one("ESTABLISHED", unacknowledged, occupancy.Evictable)
	}
	last := one("CLOSE_WAIT", timeout("close_wait"), occupancy.Evictable)
	if open, spread := opened(a); open > 0 && answers {
		held := one("ESTABLISHED", unacknowledged, occupancy.Evictable)
		held[0].Lasts, held[0].Spread = open, spread
		last = append(held, last...)
	}
	return last
}

// paces are possible rates, in attempts per second, of a closed loop whose pace the answers set:
// from an emulated guest to a namespace of a fast host. The middle one stands for the prediction.
var paces = []float64{500, 4000, 30_000}

// part is a part of a workload as one stream of the simulation: an assignment's flows to one group
// of ports with the same fate.
type part struct {
	a     wiring.Assignment
	port  uint16  // the first of the group
	share float64 // of the assignment's flows
	ports int     // in the group
	joins string  // the action that it waits for
}

// life returns how many seconds an entry lives in its states.
func life(states []occupancy.State) (seconds float64) {
	for i, s := range states {
		if s.Lasts > 0 && s.Lasts < s.Timeout && i+1 < len(states) {
			seconds += s.Lasts
			continue
		}
		return seconds + s.Timeout
	}
	return seconds
}

// mostPorts bounds the ports of an assignment that the rules are asked about: each stands for those
// up to the next one.
const mostPorts = 1024

// split divides an assignment by what becomes of the flows to each port.
func (s situation) split(a wiring.Assignment) []part {
	ports := portsOf(a)
	index := map[string]int{}
	var parts []part
	asked := min(len(ports), mostPorts)
	for i := range asked {
		from, to := i*len(ports)/asked, (i+1)*len(ports)/asked
		port := ports[from]
		_, nat := s.rules.SourceNAT(s.flow(a, port))
		key := fmt.Sprintf("%v %p %v", s.states(a, port), nat, s.refusal(a, port))
		at, ok := index[key]
		if !ok {
			at, index[key] = len(parts), len(parts)
			parts = append(parts, part{a: a, port: port})
		}
		parts[at].ports += to - from
	}
	for i := range parts {
		parts[i].share = float64(parts[i].ports) / float64(len(ports))
	}
	return parts
}

// number returns how many flows an assignment begins at most, and for how many seconds it begins
// them: 0 where nothing bounds them.
func number(a wiring.Assignment) (count, seconds float64) {
	if a.Entry.KeepAlive {
		return float64(a.Spec.Concurrency), 0
	}
	if a.Probe || a.Entry.Generator == scenarios.Hold && a.Entry.Lifetime.Shape == "" {
		return float64(a.Spec.Count), 0
	}
	return float64(a.Spec.Count), a.Spec.Duration.Seconds()
}

// arrivals returns how many flows of an assignment have begun before a time, counted from its
// start, and when it begins the last one. A closed loop has the given pace.
func arrivals(a wiring.Assignment, pace float64) (before func(t float64) float64, last float64) {
	count, seconds := number(a)
	var schedule pacing.Counter = pacing.Constant(pace)
	switch p := a.Spec.Profile; {
	case a.Entry.KeepAlive:
		schedule = pacing.Constant(1e6) // all at once
	case p != nil && p.Bursts != nil:
		schedule = *p.Bursts
	case p != nil && p.Sine != nil:
		schedule = *p.Sine
	case p != nil:
		schedule = p.Stages
	case a.Spec.Rate > 0:
		schedule = pacing.Constant(a.Spec.Rate)
	}
	before = func(t float64) float64 {
		if seconds > 0 {
			t = min(t, seconds)
		}
		n := schedule.Before(time.Duration(max(0, t) * float64(time.Second)))
		if count > 0 {
			n = min(n, count)
		}
		return n
	}
	last = seconds
	if p := a.Spec.Profile; p != nil && len(p.Stages) > 0 {
		last = 0
		for _, stage := range p.Stages {
			last += stage.Duration.Seconds()
		}
	}
	if mean := a.MeanRate(); count > 0 {
		if mean == 0 {
			mean = pace
		}
		if by := count / mean; last == 0 || by < last {
			last = by
		}
	}
	return before, last
}

// retries returns when a load repeats a refused packet.
func retries(a wiring.Assignment, client kernels.Version) []float64 {
	crafted := a.Entry.Generator.Fact().Crafted // they send once
	if crafted || a.Transport() != generators.ProtocolTCP {
		return nil
	}
	limit := a.Spec.Timeout.Seconds()
	if limit == 0 {
		limit = generators.DefaultTimeout.Seconds()
	}
	all := kernels.SYNRetries(client)
	for i, t := range all {
		if t >= limit {
			return all[:i]
		}
	}
	return all
}

// pools collects the ports that NAT has for the streams.
type pools struct {
	numbers map[string]int
	sizes   []int64
}

// of returns the number of the pool from which a part's entries take ports; 0: none.
func (p *pools) of(s situation, one part) int {
	if one.a.Transport() == generators.ProtocolICMP {
		return 0
	}
	to, rule := s.rules.SourceNAT(s.flow(one.a, one.port))
	if rule == nil {
		return 0
	}
	a := one.a
	key := fmt.Sprint(rule.Text, a.Family, a.Transport(), a.Spec.Target, a.Spec.Ports)
	if n := p.numbers[key]; n > 0 {
		return n
	}
	p.sizes = append(p.sizes, to.Ports()*int64(one.ports))
	if p.numbers == nil {
		p.numbers = map[string]int{}
	}
	p.numbers[key] = len(p.sizes)
	return len(p.sizes)
}

// clone returns a situation whose timeouts can be changed.
func (s situation) clone() situation {
	s.timeouts, s.tracked = maps.Clone(s.timeouts), maps.Clone(s.tracked)
	return s
}
