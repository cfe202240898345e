package scenarios

import "slices"

// defaultTimeout is for a request or connection, defaultProbeTimeout for one try of a probe.
const (
	defaultTimeout      = Duration(10e9)
	defaultProbeTimeout = Duration(1e9)
	defaultPort         = Port(80)
)

// finish gives a decoded scenario the defaults of the language, so that whoever runs it need not
// know them.
func finish(r *Resolved, names []string, topology Topology) {
	c := &r.DUT
	if c.Kernel == "" {
		c.Kernel = DefaultKernel
	}
	if c.VCPUs == 0 {
		c.VCPUs = DefaultVCPUs
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.RulesBackend == "" {
		c.RulesBackend = BackendNFT
	}
	if c.NAT == "" {
		c.NAT = NoNAT
	}
	if c.NFT == noRules {
		c.NFT = ""
	}
	c.Rules = rulesText(append(tablesOf(c.Rules), natTables(c.NAT, topology, IPv4)...))
	c.Rules6 = rulesText(append(tablesOf(c.Rules6), natTables(c.NAT, topology, IPv6)...))
	for i := range r.Workload {
		finishEntry(&r.Workload[i], c.NAT, topology)
		if r.Workload[i].Name == "" {
			r.Workload[i].Name = names[i]
		}
	}
}

func finishEntry(e *Entry, nat NAT, topology Topology) {
	if e.From == "" {
		e.From = nodeClient
	}
	if e.Target == "" {
		e.Target = nodeServer
		if topology.Kind == Server || nat == DNAT || nat == Redirect {
			e.Target = nodeDUT
		}
	}
	if e.Probe != "" {
		if e.Timeout == 0 {
			e.Timeout = defaultProbeTimeout
		}
		return
	}
	keys := generatorKeys[e.Generator]
	if len(e.Ports) == 0 && slices.Contains(keys, "ports") {
		e.Ports = Ports{{defaultPort, defaultPort}}
	}
	if e.Timeout == 0 && slices.Contains(keys, "timeout") {
		e.Timeout = defaultTimeout
	}
	if e.Close == "" && slices.Contains(keys, "close") {
		e.Close = CloseFIN
	}
	if e.Sources == 0 && slices.Contains(keys, "sources") {
		e.Sources = 1
	}
	if e.Packets == 0 && slices.Contains(keys, "packets") {
		e.Packets = 1
	}
}

// natTables are the rules of an address translation, for the links of the lab.
func natTables(nat NAT, topology Topology, family Family) []table {
	if nat == NoNAT || !slices.Contains(topology.Families, family) {
		return nil
	}
	six := ""
	if family == IPv6 {
		six = "6"
	}
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
	return []table{{name: "nat", lines: []ruleLine{{text: rule}}}}
}
