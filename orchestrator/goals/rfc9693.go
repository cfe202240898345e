package goals

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// RFC9693 names the method of RFC 9693 for stateful gateways: three metrics with a load of their
// own, in two phases.
const RFC9693 = "rfc9693"

// The metrics of RFC 9693, in the order in which a search finds them.
const (
	Establishment Quantity = "establishment-rate" // new connections a second
	Capacity      Quantity = "capacity"           // connections that the table holds
	TearDown      Quantity = "tear-down-rate"     // connections removed a second
)

// MetricsRFC9693 returns a goal for each metric.
func MetricsRFC9693() (list []Goal) {
	for _, q := range []Quantity{Establishment, Capacity, TearDown} {
		list = append(list, Goal{Extreme: Highest, Quantity: q})
	}
	return list
}

// Metric returns the RFC's name of a metric; empty where the goal is none.
func (g Goal) Metric() string {
	return map[Quantity]string{
		Establishment: "maximum connection establishment rate",
		Capacity:      "connection tracking table capacity",
		TearDown:      "connection tear-down rate",
	}[g.Quantity]
}

const (
	// mostConnections bounds the connections of a trial: each has a socket of its own, and the
	// target keeps as many answers back.
	mostConnections = 60000
	// safeFill is the share of max that connections take while the capacity is not known.
	safeFill = 0.75
	// phaseGap is the time between the phases.
	phaseGap = time.Second
	// leastPhase is the shortest first phase: the figures of a shorter one are those of a burst.
	leastPhase = time.Second
	// timeoutRFC9693 is the timeout of the connections, in seconds: above the length of a trial.
	timeoutRFC9693 = 3600
	// entryRFC9693 and removalRFC9693 are the names of the load and of the action.
	entryRFC9693, removalRFC9693 = "frames", "tear-down"
)

// settleRFC9693 gives a metric what is not varied: the number of connections of a scenario, and the
// rate at which a search of the capacity opens them.
func (g Goal) settleRFC9693(topology scenarios.Topology, s scenarios.Resolved) (Goal, error) {
	if topology.Kind != scenarios.Router {
		return g, fmt.Errorf("--method %s is for gateways: it needs topology: router", RFC9693)
	}
	for _, e := range s.Workload {
		if e.Generator == "" || e.Role == scenarios.Hostile {
			continue
		}
		room := float64(forecast.Scenario(topology, s, 1).Table.Max)
		g.connections = math.Floor(min(safeFill*room, mostConnections))
		g.rate = wholeRate(g.connections / 10)
		return g, nil
	}
	return g, errors.New("no entry of the workload is a generator: none says between which nodes " +
		"and at which ports the frames go")
}

func wholeRate(rate float64) float64 { return max(1, math.Floor(rate)) }

// OpenAt returns the goal with the rate at which it opens connections, where that does not vary.
func (g Goal) OpenAt(rate float64) Goal {
	g.rate = wholeRate(rate)
	return g
}

// Connections returns how many connections a trial opens, where that does not vary.
func (g Goal) Connections() float64 { return g.connections }

// loadRFC9693 gives a scenario the load of a trial. In phase 1 the initiator sends a frame of each
// connection, each on a tuple that no other has. In phase 2 the responder answers all of them, so
// that each answer shows its connection in the table. A trial of the tear-down removes all
// connections between the phases.
func (g Goal) loadRFC9693(s scenarios.Resolved, value float64) scenarios.Resolved {
	connections, rate := g.connections, g.rate
	switch g.Quantity {
	case Establishment:
		rate = value
	case Capacity:
		connections = value
	}
	var from scenarios.Entry // the first generator says from where to where the frames go
	for _, e := range s.Workload {
		if e.Generator != "" && e.Role != scenarios.Hostile {
			from = e
			break
		}
	}
	phase := time.Duration(connections / rate * float64(time.Second))
	wait := phase + phaseGap
	s.Workload = []scenarios.Entry{{
		Generator: scenarios.UDP, Name: entryRFC9693, From: from.From, Target: from.Target,
		Flows: scenarios.Count(connections), Rate: scenarios.Rate(rate),
		Ports: from.Ports, Sources: from.Sources, SourcePorts: from.SourcePorts,
		AnswerDelay: scenarios.Duration(wait), Timeout: scenarios.Duration(wait + 5*time.Second),
	}}
	s.Phases, s.Steady, s.Actions = nil, nil, nil
	if g.Quantity == TearDown {
		s.Actions = []scenarios.Action{{
			Kind: actions.Flush, Name: removalRFC9693, Node: "dut",
			At: scenarios.Duration(phase + phaseGap/2),
		}}
	}
	for _, state := range []string{"udp", "udp_stream"} {
		s.DUT.Sysctl = with(s.DUT.Sysctl, timeouts[state], strconv.Itoa(timeoutRFC9693))
	}
	return s
}

// settingsRFC9693 returns where a search of a metric begins.
func (g Goal) settingsRFC9693(topology scenarios.Topology, s scenarios.Resolved) search.Settings {
	switch g.Quantity {
	case Establishment:
		most := g.connections / leastPhase.Seconds()
		return search.Settings{Start: g.rate, Least: 1, Most: max(1, most)}
	case Capacity:
		room := float64(forecast.Scenario(topology, s, 1).Table.Max)
		return search.Settings{Start: g.connections, Least: 1, Most: mostConnections, Step: 1,
			Predicted: min(room, mostConnections)}
	default:
		return search.Settings{Start: g.connections}
	}
}

// tearDownRate returns the entries that a trial's removal took away in a second; 0 where the trial
// does not tell.
func tearDownRate(t *results.Trial) float64 {
	for _, a := range t.Actions {
		if a.Name != removalRFC9693 || a.Took <= 0 {
			continue
		}
		for _, e := range a.Effects {
			before, err := strconv.ParseFloat(e.Before, 64)
			after, afterErr := strconv.ParseFloat(e.After, 64)
			if e.Name == kernels.KeyCount && err == nil && afterErr == nil {
				return max(0, (before-after)/a.Took)
			}
		}
	}
	return 0
}
