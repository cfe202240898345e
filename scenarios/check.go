package scenarios

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// The bounds of what an experiment may ask for.
const (
	// MaxTrials bounds the fresh boots of each scenario.
	MaxTrials = 1000

	maxVCPUs    = 256
	minMemory   = Size(64 << 20)
	maxNodesOf  = 16 // client nodes, server nodes
	maxSampling = Rate(100)
)

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9._-]+=[A-Za-z0-9._-]*)*$`)
	kernelForm = regexp.MustCompile(`^[a-z][a-z0-9]*/[a-z0-9][a-z0-9._+~-]*$`)
	moduleForm = regexp.MustCompile(`^[A-Za-z0-9_-]+( [A-Za-z0-9_]+=[^ ]*)*$`)
)

// checkName checks a name that appears in tables and in the names of folders.
func checkName(p *problems, at Position, what, name string) {
	switch {
	case len(name) > 200 || !nameForm.MatchString(name):
		p.errorf(at, "%s is not the name of %s: letters, digits, - _ and . only, a letter or digit first", quote(name), what)
	case what == aScenario && name == allScenarios:
		p.errorf(at, "a scenario cannot be called %q, which means every scenario in thresholds", allScenarios)
	}
}

const aScenario = "a scenario"

// checkHead checks what is outside of dut, workload and scenarios, and fills in its defaults.
func checkHead(p *problems, e *Experiment, root *node) {
	at := root.place
	p.require(e.Name != "", at("experiment"), "the experiment has no name: the key experiment is missing")
	if e.Name != "" {
		checkName(p, at("experiment"), "an experiment", e.Name)
	}
	if strings.ContainsAny(e.Summary, "\n\r") {
		p.errorf(at("summary"), "summary must be one line; documentation has room for more")
	}
	if e.Trials == 0 && root.get("trials") == nil {
		e.Trials = DefaultTrials
	}
	p.require(e.Trials >= 1 && e.Trials <= MaxTrials, at("trials"), "trials must be 1 to %d", MaxTrials)
	p.require(e.Sampling > 0 && e.Sampling <= maxSampling, at("sampling"),
		"sampling must be more than 0/s and at most %s: reading the counters is work for the DUT too", maxSampling)
	checkTopology(p, &e.Topology, at("topology"))
}

func checkTopology(p *problems, t *Topology, at Position) {
	t.Kind, t.Clients = cmp.Or(t.Kind, Server), cmp.Or(t.Clients, 1)
	if len(t.Families) == 0 {
		t.Families = []Family{IPv4}
	}
	if len(t.Families) > 1 && t.Families[0] == t.Families[1] || len(t.Families) > 2 {
		p.errorf(at, "an address family is given twice")
	}
	switch {
	case t.Kind == Server && t.Servers > 0:
		p.errorf(at, "in the server topology the DUT is the server; servers goes with topology router")
	case t.Kind == Router && t.Servers == 0:
		t.Servers = 1
	}
	if t.Clients > maxNodesOf || t.Servers > maxNodesOf {
		p.errorf(at, "at most %d clients and %d servers", maxNodesOf, maxNodesOf)
	}
}

// check checks one resolved scenario. Positions come from its tree.
func check(p *problems, tree *node, r *Resolved, topology Topology) {
	checkConfiguration(p, tree.get("dut"), &r.DUT, topology)
	guide(p, tree.get("dut"), &r.DUT, topology)
	workload := tree.get("workload")
	if len(r.Workload) == 0 {
		p.errorf(workload.at, "the workload is empty")
	}
	seen := map[string]bool{}
	for i := range r.Workload {
		entry, at := &r.Workload[i], workload.items[i]
		checkEntry(p, at, entry, topology)
		checkPhase(p, at, entry, r.Phases)
		checkName(p, at.at, "an entry", entry.Name)
		if seen[entry.Name] {
			p.errorf(at.at, "two entries of the workload are called %s", quote(entry.Name))
		}
		seen[entry.Name] = true
	}
	checkAnswering(p, workload, r, topology)
	checkActions(p, tree.get("actions"), r, topology)
	for i, steady := range r.Steady {
		at := tree.get("steady").items[i].at
		p.require(strings.TrimSpace(steady.Text) != "", at, "the expression is empty")
	}
	if len(r.Workload) > 0 && !slices.ContainsFunc(workload.items, func(n *node) bool { return n.get("probe") == nil }) {
		p.errorf(workload.at, "the workload has no generator: nothing says when the load ends")
	}
}

func checkConfiguration(p *problems, n *node, c *Configuration, topology Topology) {
	at := n.place
	if !c.KernelIsFile() && c.Kernel != kernels.HostName && !kernelForm.MatchString(c.Kernel) {
		p.errorf(at("kernel"), "%s is not a kernel: a name such as debian/bookworm, host, or a path that begins with / or ./%s", quote(c.Kernel), kernelMeant(c.Kernel))
	}
	if c.KernelModules != "" && !c.KernelIsFile() {
		p.errorf(at("kernel-modules"), "kernel-modules goes with a kernel given by path; %s brings its own", c.Kernel)
	}
	if c.KernelModules != "" && !path.IsAbs(c.KernelModules) && !strings.HasPrefix(c.KernelModules, ".") {
		p.errorf(at("kernel-modules"), "kernel-modules must be a path that begins with / or ./")
	}
	p.require(c.VCPUs >= 1 && c.VCPUs <= maxVCPUs, at("vcpus"), "vcpus must be 1 to %d", maxVCPUs)
	p.require(c.Memory >= minMemory, at("memory"), "memory must be at least %s, not %s", minMemory, c.Memory)
	if n.has("buckets") {
		checkBuckets(p, at("buckets"), c.Buckets)
	}
	for _, name := range slices.Concat(c.Modules.Load, c.Modules.Remove) {
		if !moduleForm.MatchString(name) {
			p.errorf(at("modules"), "%s is not a module, such as nf_conntrack or \"nf_conntrack hashsize=4096\"", quote(name))
		}
	}
	if refused := n.get("refused"); refused != nil && refused.kind == list {
		for i, line := range c.Refused {
			checkRefused(p, refused.items[i].at, line)
		}
	}
	checkRules(p, n, c, topology)
}

func checkBuckets(p *problems, at Position, buckets Count) {
	p.require(buckets >= 1 && buckets <= 1<<31, at, "buckets must be 1 to %d", 1<<31)
}

// refusingTools are the programs that a faulty command line may run: each is in the guest, and a
// command line that it refuses changes nothing.
var refusingTools = []string{"sysctl", "iptables", "ip6tables", "nft"}

// checkRefused checks a command line, which runs without a shell.
func checkRefused(p *problems, at Position, line string) {
	words := strings.Fields(line)
	switch {
	case len(words) < 2:
		p.errorf(at, "%s is not a command line, as sysctl -w key = value", quote(line))
	case !slices.Contains(refusingTools, words[0]):
		p.errorf(at, "%s is not a command line of a tool that refuses mistakes%s", quote(line), spelling.Hint(words[0], refusingTools))
	case strings.ContainsAny(line, "'\"`$|&;<>\n"):
		p.errorf(at, "%s needs a shell, and none runs it: words alone, without quotes, pipes and redirections", quote(line))
	}
}

// kernelMeant returns the kernel whose name ends in a word, or is near to it.
func kernelMeant(word string) string {
	known := []string{"debian/bookworm", "debian/trixie", "debian/sid", "ubuntu/jammy", "ubuntu/noble", "host"}
	for _, kernel := range known {
		if strings.HasSuffix(kernel, "/"+strings.ToLower(word)) {
			return spelling.Meant(kernel)
		}
	}
	return spelling.Meant(spelling.Nearest(word, known))
}

func checkRules(p *problems, n *node, c *Configuration, topology Topology) {
	for _, key := range rulesKeys {
		for _, t := range rulesOf(n.get(key)) {
			if t.Name == "nat" && c.NAT != NoNAT && slices.Contains(topology.Families, familyOf(key)) {
				p.errorf(t.at, "nat: %s and a *nat table of your own exclude each other", c.NAT)
			}
		}
	}
	checkTexts(p, n, topology)
	if nft := n.get("nft"); nft != nil && nft.kind == scalar && strings.TrimSpace(nft.text) != noRules {
		checkScript(p, nft, true)
	}
	if ipvs := n.get("ipvs"); ipvs != nil && ipvs.kind == scalar {
		for i, line := range strings.Split(ipvs.text, "\n") {
			checkIPVS(p, ipvs.lineAt(i), line)
		}
	}
	if topology.Kind == Server && c.NAT != NoNAT && c.NAT != Redirect {
		p.errorf(n.get("nat").at, "nat: %s needs a link to a server; it goes with topology router", c.NAT)
	}
	if remove := n.get("modules").get("remove"); remove != nil && slices.Contains(c.Modules.Remove, "nf_conntrack") && (c.Tracks(IPv4) || c.Tracks(IPv6)) {
		p.errorf(remove.at, "nf_conntrack cannot be removed while rules use it; a scenario that removes it says rules: none")
	}
}

// checkIPVS checks the frame of a line for ipvsadm -R; the real tool checks the rest in the DUT.
func checkIPVS(p *problems, at Position, line string) {
	commands := []string{"-A", "--add-service", "-a", "--add-server"}
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(words[0], "#") || line == noRules || slices.Contains(commands, words[0]) {
		return
	}
	p.errorf(at, "%s is not a line of ipvsadm -S: those add a service (-A) or a server to one (-a)", quote(strings.TrimSpace(line)))
}

// readThresholds reads the expressions of each scenario, given as a list or as one expression.
func readThresholds(p *problems, n *node, resolved []Resolved) []Threshold {
	if n == nil || n.kind == null {
		return nil
	}
	if n.kind != mapping {
		p.errorf(n.at, "thresholds must be names of scenarios with expressions, not %s", n.what())
		return nil
	}
	names := append([]string{allScenarios}, namesOf(resolved)...)
	var thresholds []Threshold
	for _, e := range n.entries {
		if e.value.taken {
			continue
		}
		if len(resolved) > 0 && !slices.Contains(names, e.key) {
			p.errorf(e.at, "there is no scenario %s%s", quote(e.key), spelling.Hint(e.key, names))
		}
		items := e.value.items
		if e.value.kind != list {
			items = []*node{e.value}
		}
		for _, item := range items {
			if item.empty() {
				continue
			}
			if text, ok := scalarText(p, item); ok {
				if strings.TrimSpace(text) == "" {
					p.errorf(item.at, "the threshold is empty")
				}
				thresholds = append(thresholds, Threshold{e.key, text, item.at})
			}
		}
	}
	return thresholds
}
