package forecast

import (
	"math"
	"slices"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// probeLead is the time, in seconds, from the first attempt of a bystander to the start of the
// load.
const probeLead = 0.5

// watched is the time, in seconds, that a prediction goes on after the load, as the bystanders do:
// a quiet trial ends about then.
const watched = 0.5

// Case is a trial to predict: what it will do, and what its kernel reports before the load.
type Case struct {
	Topology scenarios.Topology
	Scenario scenarios.Resolved
	Entries  []wiring.Assignment
	State    tuning.State
	// Age is the time since nf_conntrack was loaded; nil: not known. The garbage collector scans
	// one second after that, and every minute while the table is idle.
	Age *time.Duration
	// Client is the kernel that makes the load.
	Client kernels.Version
	// Performed are the actions of the trial with their times; nil before it. Those that it lacks
	// did not come.
	Performed []results.Action
	Curve     bool // predict the count over time as well
}

// prediction is a workload as streams of a simulation.
type prediction struct {
	Case
	base  situation
	parts []part
	pools pools

	rate, lives, weights float64 // of the load without its bystanders
	closed               bool    // the answers set the pace of a part of it
}

// Predict predicts what the load of a case will do to the table.
func Predict(c Case) *results.Prediction {
	p := newPrediction(c)
	made := results.Prediction{MemoryBytes: kernels.Size{Buckets: c.State.Buckets}.Bytes(0)}
	if len(p.parts) == 0 {
		return &made
	}
	tried := paces
	if !p.closed {
		tried = paces[:1]
	}
	var ranges []occupancy.Range
	for _, pace := range tried {
		in := p.input(pace)
		for _, shift := range p.shifts(in) {
			in := shifted(in, shift)
			if together, ok := p.together(in); ok {
				ranges = append(ranges, occupancy.Simulate(together))
			}
			ranges = append(ranges, occupancy.Simulate(in))
		}
	}
	ports := int64(0)
	for _, n := range p.pools.sizes {
		ports += n
	}
	made = results.PredictionOf(
		ranges, kernels.Size{Max: c.State.Max, Buckets: c.State.Buckets}, ports)
	room := c.State.Max - max(0, c.State.Count)
	if !slices.ContainsFunc(p.parts, func(one part) bool { return p.pools.of(p.base, one) == 0 }) {
		room = min(room, ports)
	}
	made.Describe(p.rate, p.residence(), room, !p.closed)
	if c.Age == nil { // the collector comes as often as the tables of all namespaces need it
		made.PeakLow = min(made.PeakLow, made.Alive)
	}
	if slices.ContainsFunc(p.parts, func(one part) bool { return random(one.a) }) {
		made.Chance(c.State.Max)
	}
	if slices.ContainsFunc(p.parts, p.repeats) {
		made.DropHigh = max(made.DropHigh, repeated*made.Overflow)
	}
	return &made
}

// repeated bounds the packets that a connection repeats while the table has no place for its entry,
// where the kernel sees only its answers: SYN-ACKs by their timer and for each repeated SYN, then
// data, 0.2 s later and twice that each time.
const repeated = 16

// repeats reports whether a part of the load does so.
func (p *prediction) repeats(one part) bool {
	return one.a.Transport() == generators.ProtocolTCP && p.base.oneWay(one.a, one.port) &&
		len(p.base.states(one.a, one.port)) > 0
}

// random reports whether chance decides when the flows of an assignment begin or end.
func random(a wiring.Assignment) bool {
	_, spread := opened(a)
	return len(spread) > 0 || a.Spec.Arrivals == generators.Poisson
}

// underWay bounds, in seconds, the time that a connection is under way on an emulated guest, and
// the delay of an action there.
const underWay = 0.25

// shifts returns the delays, in seconds, with which the changes of a simulation may come. Where one
// removes entries, a connection that is under way makes its entry again, as if the change had come
// before it. An action that was performed came at some moment of the time that it took.
func (p *prediction) shifts(in occupancy.Input) []float64 {
	if !slices.ContainsFunc(in.Changes, func(c occupancy.Change) bool { return c.Remove != nil }) {
		return []float64{0}
	}
	off := underWay
	for _, done := range p.Performed {
		off = max(off, done.Took/2)
	}
	return []float64{-off, 0, off}
}

// shifted returns a simulation whose changes come later by some seconds.
func shifted(in occupancy.Input, seconds float64) occupancy.Input {
	in.Changes = slices.Clone(in.Changes)
	for i := range in.Changes {
		in.Changes[i].At += seconds
	}
	return in
}

// meets reports whether two parts share so much of their tuples, or more.
func (one part) meets(other part, least wiring.Sharing) bool {
	alike := one.port == other.port && one.ports == other.ports
	return one.a.Name != other.a.Name && one.a.Shares(other.a) >= least &&
		(alike || least < wiring.All)
}

// walks sets the walks of the streams whose tuples other streams have too, as much as least or
// more, and reports whether any do.
func (p *prediction) walks(streams []occupancy.Stream, least wiring.Sharing) (any bool) {
	n := 0
	for i, one := range p.parts {
		for j, other := range p.parts[:i] {
			if !one.meets(other, least) {
				continue
			}
			if streams[j].Walk == 0 {
				n++
				streams[j].Walk = n
			}
			streams[i].Walk, any = streams[j].Walk, true
			break
		}
	}
	return any
}

// together returns the simulation in which streams that share some of their tuples come to the same
// ones as often as they can; false where none share only some. It is the other end of what the
// order of the tuples decides.
func (p *prediction) together(in occupancy.Input) (occupancy.Input, bool) {
	some := slices.ContainsFunc(p.parts, func(one part) bool {
		return slices.ContainsFunc(p.parts, func(other part) bool {
			return one.meets(other, wiring.Some) && !one.meets(other, wiring.All)
		})
	})
	if !some {
		return in, false
	}
	in.Streams = slices.Clone(in.Streams)
	return in, p.walks(in.Streams, wiring.Some)
}

// newPrediction finds the tracked parts of the workload, those that an action may track too.
func newPrediction(c Case) *prediction {
	p := &prediction{Case: c, base: situationOf(c)}
	for _, a := range c.Entries {
		for _, one := range p.base.split(a) {
			if action, joins := c.Scenario.Joined(a.Entry); joins {
				one.joins = action.Name
			}
			states := p.base.states(a, one.port)
			refused := p.base.refusal(a, one.port) != occupancy.Accepted
			if len(states) == 0 && !refused && len(c.Scenario.Actions) == 0 {
				continue
			}
			p.parts = append(p.parts, one)
			if a.Probe || len(states) == 0 {
				continue
			}
			rate := a.MeanRate() * one.share
			if a.Entry.KeepAlive {
				rate = 0
			}
			p.closed = p.closed || rate == 0
			p.rate += rate
			p.lives += max(rate, 1) * life(states)
			p.weights += max(rate, 1)
		}
	}
	if p.closed {
		p.rate = 0
	}
	return p
}

// tracks reports whether any flow makes an entry before an action changes that.
func (p *prediction) tracks() bool {
	return slices.ContainsFunc(p.parts, func(one part) bool {
		return len(p.base.states(one.a, one.port)) > 0
	})
}

// residence returns the mean life of an entry in seconds, weighted by the rates, which keeps
// Little's law for the sum.
func (p *prediction) residence() float64 {
	if p.weights == 0 {
		return 0
	}
	return p.lives / p.weights
}

// input returns the simulation of the workload; closed loops have the given pace.
func (p *prediction) input(pace float64) occupancy.Input {
	p.pools = pools{}
	in := occupancy.Input{
		Max: p.State.Max, Buckets: p.State.Buckets, Held: float64(max(0, p.State.Count)),
	}
	if p.Curve {
		in.Points = 500
	}
	if p.Age != nil {
		in.Scan = new(math.Mod(61-math.Mod(p.Age.Seconds(), 60), 60))
	}
	for _, a := range p.Entries { // bystanders go on for as long as any of the load
		if _, last := arrivals(a, pace); !a.Probe {
			open, _ := opened(a)
			in.Until = max(in.Until, a.Start.Seconds()+last+open)
		}
	}
	for _, one := range p.parts {
		a := one.a
		before, last := arrivals(a, pace)
		start, end := a.Start.Seconds(), 0.0
		switch {
		case a.Probe:
			start, end = -probeLead, 0
			in.From = min(in.From, start)
		case one.joins != "":
			start, end = 0, last+p.joinedAt(one.joins)
			in.Waits = append(in.Waits, len(in.Streams))
		default:
			end = start + last
		}
		again := retries(a, p.Client)
		if len(again) > 0 && !a.Probe {
			in.Grace = max(in.Grace, again[len(again)-1])
		}
		states := p.base.states(a, one.port)
		stream := occupancy.Stream{
			Name: a.Name, Retries: again, States: states,
			Refusal:  p.base.refusal(a, one.port),
			Arrivals: func(t float64) float64 { return one.share * before(t-start) },
			Pool:     p.pools.of(p.base, one), Talks: a.Spec.Interval.Seconds(),
		}
		if tuples := a.Spec.Tuples(); tuples > 0 {
			stream.Tuples = int64(math.Ceil(one.share * float64(tuples)))
		}
		if p.base.translates(a.Family) {
			stream.Walks = 2
		}
		if p.repeats(one) {
			stream.Packets = 2 // the target's ACK, and its answer or its FIN
		}
		in.Until = max(in.Until, end)
		in.Streams = append(in.Streams, stream)
	}
	p.walks(in.Streams, wiring.All)
	in.Until = max(in.Until, time.Duration(p.Scenario.Phases.Total()).Seconds()) + watched
	in.Changes = p.changes(&in)
	in.Pools = p.pools.sizes
	return in
}

// joinedAt returns when an action that an entry waits for comes, as far as that is known.
func (p *prediction) joinedAt(name string) float64 {
	for _, done := range p.Performed {
		if done.Name == name && done.Begun != nil {
			return *done.Begun
		}
	}
	for _, a := range p.Scenario.Actions {
		if a.Name == name {
			at, _ := p.Scenario.ActionBegins(a)
			return at.Seconds() + a.After.Seconds()
		}
	}
	return 0
}
