package scenarios

import (
	"slices"

	"github.com/ctload/ctload/internal/actions"
)

// defaultTimeout is for a request or connection, defaultProbeTimeout for one try of a probe.
const (
	defaultTimeout      = Duration(10e9)
	defaultProbeTimeout = Duration(1e9)
	defaultPort         = Port(80)
)

// finish gives a decoded scenario the defaults of the language, so that no other package needs to
// know them.
func finish(r *Resolved, tree *node, names map[string][]string, topology Topology) {
	c, dut := &r.DUT, tree.get("dut")
	orDefault(dut, "kernel", &c.Kernel, DefaultKernel)
	orDefault(dut, "vcpus", &c.VCPUs, DefaultVCPUs)
	orDefault(dut, "memory", &c.Memory, DefaultMemory)
	orDefault(dut, "rules-backend", &c.RulesBackend, BackendNFT)
	orDefault(dut, "nat", &c.NAT, NoNAT)
	if c.NFT == noRules {
		c.NFT = ""
	}
	if c.IPVS == noRules {
		c.IPVS = ""
	}
	c.Rules = finishRules(c.Rules, natTables(c.NAT, topology, IPv4))
	c.Rules6 = finishRules(c.Rules6, natTables(c.NAT, topology, IPv6))
	for i := range r.Workload {
		finishEntry(&r.Workload[i], tree.get("workload").items[i], c.NAT, topology)
		finishPhase(&r.Workload[i], tree.get("workload").items[i], r.Phases)
		if r.Workload[i].Name == "" {
			r.Workload[i].Name = names["workload"][i]
		}
	}
	for i := range r.Actions {
		finishAction(&r.Actions[i], tree.get("actions").items[i], names["actions"][i])
	}
}

func finishRules(rules string, nat []table) string {
	if rules == noRules {
		rules = ""
	}
	return rules + rulesText(nat)
}

// orDefault sets the default of a value that a file does not mention. A mentioned value stays, also
// 0, for the checks to judge.
func orDefault[T comparable](n *node, key string, value *T, standard T) {
	var zero T
	if *value == zero && n.get(key) == nil {
		*value = standard
	}
}

func finishEntry(e *Entry, n *node, nat NAT, topology Topology) {
	orDefault(n, "from", &e.From, nodeClient)
	target := nodeServer
	if topology.Kind == Server || nat == DNAT || nat == Redirect {
		target = nodeDUT
	}
	orDefault(n, "target", &e.Target, target)
	if e.Probe != "" {
		orDefault(n, "timeout", &e.Timeout, defaultProbeTimeout)
		return
	}
	for _, key := range generatorKeys[e.Generator] {
		switch key {
		case "ports":
			if n.get(key) == nil {
				e.Ports = Ports{{defaultPort, defaultPort}}
			}
		case "timeout":
			orDefault(n, key, &e.Timeout, defaultTimeout)
		case "close":
			orDefault(n, key, &e.Close, CloseFIN)
		case "sources":
			orDefault(n, key, &e.Sources, 1)
		case "packets":
			orDefault(n, key, &e.Packets, 1)
		}
	}
}

// natTables returns the rules of an address translation, for the links of the lab.
func natTables(nat NAT, topology Topology, family Family) []table {
	if nat == NoNAT || !slices.Contains(topology.Families, family) {
		return nil
	}
	six := family.suffix()
	var rule string
	switch nat {
	case Masquerade:
		rule = "-A POSTROUTING -o ${server.interface} -j MASQUERADE"
	case SNAT:
		rule = "-A POSTROUTING -o ${server.interface} -j SNAT --to-source ${dut.server.address" + six + "}"
	case DNAT:
		rule = "-A PREROUTING -i ${client.interface} -d ${dut.client.address" + six + "} -j DNAT --to-destination ${server.address" + six + "}"
	case Redirect:
		rule = "-A PREROUTING -i ${client.interface} -p tcp -j REDIRECT --to-ports 80"
	default:
		return nil
	}
	return tablesOf("*nat\n" + rule + "\nCOMMIT\n")
}

// finishAction gives a decoded action the defaults of the language.
func finishAction(a *Action, n *node, name string) {
	if a.Name == "" {
		a.Name = name
	}
	keys := a.Kind.Fact().Keys
	if slices.Contains(keys, "node") {
		orDefault(n, "node", &a.Node, nodeDUT)
	}
	if slices.Contains(keys, "link") {
		orDefault(n, "link", &a.Link, nodeDUT+"/"+nodeClient)
	}
	if a.Kind == actions.Network {
		orDefault(n, "direction", &a.Direction, actions.Both)
	}
	if a.Kind.Undoable() {
		orDefault(n, "times", &a.Times, 1)
	}
}

// finishPhase ends an entry with its phase. Held connections stay: their duration says how long.
func finishPhase(e *Entry, n *node, phases Phases) {
	rest := phases.length(e.Phase) - e.Start
	if e.Phase == "" || rest <= 0 || e.Generator == Hold || len(e.Stages) > 0 {
		return
	}
	orDefault(n, "duration", &e.Duration, rest)
}
