package wiring

import (
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/scenarios"
)

// Fault returns an action as an agent is asked for it.
func Fault(topology scenarios.Topology, dut scenarios.Configuration, a scenarios.Action, id string) (faults.Fault, error) {
	a, err := a.Substitute(placeholders(topology))
	if err != nil {
		return faults.Fault{}, err
	}
	f := faults.Fault{
		ID: id, Kind: faults.Kind(a.Kind), Buckets: int(a.Buckets), Modules: a.Modules,
		Rules: faults.Rules{IPv4: a.Rules, IPv6: a.Rules6, NFT: a.NFT, Add: a.Add, Backend: string(dut.RulesBackend)},
		Delete: faults.Filter{
			Protocol: a.Protocol, State: a.State, Source: a.Source, Destination: a.Destination,
			Port: uint16(a.Port), SourcePort: uint16(a.SourcePort), Unassured: a.Unassured,
		},
		Clock: time.Duration(a.By), CPU: float64(a.Share), Leave: int64(a.Leave), Ports: a.Ports.Expand(),
	}
	for _, s := range a.Sysctl {
		f.Sysctl = append(f.Sysctl, tuning.Sysctl{Key: s.Key, Value: s.Value})
	}
	return f, nil
}

// Conditions returns what an action does to a link.
func Conditions(a scenarios.Action) link.Conditions {
	switch a.Kind {
	case scenarios.LinkDown:
		return link.Conditions{Down: true}
	case scenarios.Partition:
		return link.Conditions{Partitioned: true}
	}
	return link.Conditions{
		Direction: link.Direction(a.Direction), Loss: float64(a.Loss), Delay: time.Duration(a.Delay), Jitter: time.Duration(a.Jitter),
		Reorder: float64(a.Reorder), Duplicate: float64(a.Duplicate), Corrupt: float64(a.Corrupt), Rate: int64(a.Rate),
	}
}
