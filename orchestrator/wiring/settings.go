package wiring

import (
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/scenarios"
)

// Settings returns what the agent of the DUT applies: the scenario's configuration, with the lab's
// addresses in place of the rules' placeholders, and forwarding where the DUT is a router.
func Settings(topology scenarios.Topology, dut scenarios.Configuration) (tuning.Settings, error) {
	dut, err := dut.Substitute(placeholders(topology, dut))
	if err != nil {
		return tuning.Settings{}, err
	}
	s := tuning.Settings{
		LoadModules:   dut.Modules.Load,
		RemoveModules: dut.Modules.Remove,
		Buckets:       int(dut.Buckets),
		Rules:         dut.Rules,
		Rules6:        dut.Rules6,
		RulesBackend:  string(dut.RulesBackend),
		NFT:           dut.NFT,
		Setup:         dut.Setup,
		IPSet:         dut.IPSet,
		IPVS:          dut.IPVS,
	}
	if topology.Kind == scenarios.Router {
		for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			if _, given := dut.Sysctl.Get(key); !given {
				s.Sysctl = append(s.Sysctl, tuning.Sysctl{Key: key, Value: "1"})
			}
		}
	}
	for _, setting := range dut.Sysctl {
		s.Sysctl = append(s.Sysctl, tuning.Sysctl(setting))
	}
	return s, nil
}

// placeholders returns the lab's values for the placeholders in rules.
func placeholders(topology scenarios.Topology, dut scenarios.Configuration) map[string]string {
	values := map[string]string{}
	for link, name := range dut.Interfaces(topology) {
		values[link+".interface"] = name
	}
	for word, prefix := range topology.LabValues() {
		if values[word] = prefix.String(); prefix.IsSingleIP() {
			values[word] = prefix.Addr().String()
		}
	}
	return values
}

// Fault returns the form of an action that an agent understands.
func Fault(
	topology scenarios.Topology, dut scenarios.Configuration, a scenarios.Action, id string,
) (actions.Fault, error) {
	a, err := a.Substitute(placeholders(topology, dut))
	return a.Fault(id, dut.RulesBackend), err
}
