package scenarios

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
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
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*(@[\w.-]+=[\w.-]*)*$`)
	kernelForm = regexp.MustCompile(`^[a-z][a-z0-9]*/[a-z0-9][a-z0-9._+~-]*$`)
	moduleForm = regexp.MustCompile(`^[\w-]+( \w+=[^ ]*)*$`)
)

// checkName checks a name that appears in tables and in the names of folders.
func checkName(p *problems, at Position, what, name string) {
	p.refuse(len(name) > 200 || !nameForm.MatchString(name), at, "%s is not the name of %s: "+
		"letters, digits, - _ and . only, a letter or digit first", quote(name), what)
	p.refuse(what == aScenario && name == allScenarios, at,
		"a scenario cannot be called %q, which means every scenario in thresholds", allScenarios)
}

const aScenario = "a scenario"

// checkHead checks what is outside of dut, workload and scenarios, and fills in its defaults.
func checkHead(p *problems, e *Experiment, root *node) {
	at := root.place
	p.require(e.Name != "", at("experiment"),
		"the experiment has no name: the key experiment is missing")
	if e.Name != "" {
		checkName(p, at("experiment"), "an experiment", e.Name)
	}
	p.refuse(strings.ContainsAny(e.Summary, "\n\r"), at("summary"),
		"summary must be one line; documentation has room for more")
	if e.Trials == 0 && root.get("trials") == nil {
		e.Trials = DefaultTrials
	}
	p.require(e.Trials >= 1 && e.Trials <= MaxTrials, at("trials"),
		"trials must be 1 to %d", MaxTrials)
	p.require(e.Sampling > 0 && e.Sampling <= maxSampling, at("sampling"), "sampling must be more "+
		"than 0/s and at most %s: reading the counters is work for the DUT too", maxSampling)
	checkTopology(p, &e.Topology, at("topology"))
}

func checkTopology(p *problems, t *Topology, at Position) {
	t.Kind, t.Clients = cmp.Or(t.Kind, Server), cmp.Or(t.Clients, 1)
	if len(t.Families) == 0 {
		t.Families = []Family{IPv4}
	}
	p.refuse(len(t.Families) > 1 && t.Families[0] == t.Families[1] || len(t.Families) > 2, at,
		"an address family is given twice")
	p.refuse(t.Kind == Server && t.Servers > 0, at,
		"in the server topology the DUT is the server; servers goes with topology router")
	if t.Kind == Router {
		t.Servers = cmp.Or(t.Servers, 1)
	}
	p.refuse(t.Clients > maxNodesOf || t.Servers > maxNodesOf, at,
		"at most %d clients and %d servers", maxNodesOf, maxNodesOf)
}

func check(p *problems, tree *node, r *Resolved, topology Topology) {
	checkConfiguration(p, tree.get("dut"), &r.DUT, topology)
	guideHash(p, tree.get("dut"), &r.DUT)
	guideMemory(p, tree.get("dut"), &r.DUT)
	workload := tree.get("workload")
	seen, generators := map[string]bool{}, 0
	for i := range r.Workload {
		entry, at := &r.Workload[i], workload.items[i]
		checkEntry(p, at, entry, topology)
		checkPhase(p, at, entry, r.Phases)
		checkName(p, at.at, "an entry", entry.Name)
		p.refuse(seen[entry.Name], at.at, "two entries of the workload are called %s",
			quote(entry.Name))
		seen[entry.Name] = true
		if !at.has("probe") {
			generators++
		}
	}
	p.refuse(len(r.Workload) == 0, workload.at, "the workload is empty")
	p.refuse(len(r.Workload) > 0 && generators == 0, workload.at,
		"the workload has no generator: nothing says when the load ends")
	checkAnswering(p, workload, r, topology)
	checkActions(p, tree.get("actions"), r, topology)
	guideRules(p, tree.get("dut"), r, topology)
	for i, steady := range r.Steady {
		at := tree.get("steady").items[i].at
		p.require(strings.TrimSpace(steady.Text) != "", at, "the expression is empty")
	}
}

func checkConfiguration(p *problems, n *node, c *Configuration, topology Topology) {
	at := n.place
	named := c.Kernel == kernels.HostName || kernelForm.MatchString(c.Kernel)
	p.refuse(!c.KernelIsFile() && !named, at("kernel"), "%s is not a kernel: a name such as "+
		"debian/bookworm, host, or a path that begins with / or ./%s",
		quote(c.Kernel), kernelMeant(c.Kernel))
	modules := c.KernelModules
	p.refuse(modules != "" && !c.KernelIsFile(), at("kernel-modules"),
		"kernel-modules goes with a kernel given by path; %s brings its own", c.Kernel)
	p.refuse(modules != "" && !path.IsAbs(modules) && modules[0] != '.', at("kernel-modules"),
		"kernel-modules must be a path that begins with / or ./")
	p.require(c.VCPUs >= 1 && c.VCPUs <= maxVCPUs, at("vcpus"), "vcpus must be 1 to %d", maxVCPUs)
	p.require(c.Memory >= minMemory, at("memory"),
		"memory must be at least %s, not %s", minMemory, c.Memory)
	if n.has("buckets") {
		checkBuckets(p, at("buckets"), c.Buckets)
	}
	checkGone(p, n, c)
	checkCards(p, n.get("interfaces"), c.Cards, topology)
	checkAddresses(p, n.get("addresses"), c.Addresses, topology)
	checkListen(p, n.get("listen"), c.Listen, topology)
	checkObjects(p, firewallOf(n, c, topology), c)
	checkSetup(p, n, c)
	checkModules(p, n.get("modules"), c)
	for _, name := range slices.Concat(c.Modules.Load, c.Modules.Remove) {
		p.refuse(!moduleForm.MatchString(name), at("modules"), "%s is not a module, "+
			`such as nf_conntrack or "nf_conntrack hashsize=4096"`, quote(name))
	}
	if refused := n.get("refused"); refused != nil && refused.kind == list {
		for i, line := range c.Refused {
			checkRefused(p, refused.items[i].at, line)
		}
	}
	checkRules(p, n, c, topology)
}

// checkModules refuses parameters that a module is known not to have: the kernel passes over them.
func checkModules(p *problems, n *node, c *Configuration) {
	loading := kernels.Loading(c.Modules.Load)
	for i, module := range c.Modules.Load {
		words := strings.Fields(module)
		at := n.place("load")
		if load := n.get("load"); load != nil && i < len(load.items) {
			at = load.items[i].at
		}
		if len(words) > 1 && !slices.Contains(loading, module) {
			p.warnf(at, "the kernel ignores %s: a line before loads %s",
				strings.Join(words[1:], " "), words[0])
		}
		for _, word := range words[min(1, len(words)):] {
			parameter, _, _ := strings.Cut(word, "=")
			if hint, known := kernels.ParameterMeant(words[0], parameter); !known {
				p.errorf(at, "%s has no parameter %s, and the kernel passes over it%s",
					words[0], quote(parameter), hint)
			}
		}
	}
}

func checkBuckets(p *problems, at Position, buckets Count) {
	p.require(buckets >= 1 && buckets <= 1<<31, at, "buckets must be 1 to %d", 1<<31)
}

// refusingTools are the programs that a faulty command line may run: each is in the guest, and a
// command line that it refuses changes nothing.
var refusingTools = []string{"sysctl", "iptables", "ip6tables", "nft"}

func checkSetup(p *problems, n *node, c *Configuration) {
	given := n.get("setup")
	for i, line := range c.Setup {
		if given == nil || i >= len(given.items) {
			return
		}
		at, words := given.items[i].at, strings.Fields(line)
		p.refuse(len(words) == 0 || strings.ContainsAny(line, "`$|&;<>\n'\""), at,
			"%s is not a command line of words alone: no shell runs it", quote(line))
		p.refuse(len(words) > 0 && strings.Contains(words[0], "/"), at, "%s names its program by "+
			"a path: the program of that name comes along from this host", quote(line))
	}
}

func checkRefused(p *problems, at Position, line string) {
	words := strings.Fields(line)
	switch {
	case len(words) < 2:
		p.errorf(at, "%s is not a command line, as sysctl -w key = value", quote(line))
	case !slices.Contains(refusingTools, words[0]):
		p.errorf(at, "%s is not a command line of a tool that refuses mistakes%s",
			quote(line), spelling.Hint(words[0], refusingTools))
	case strings.ContainsAny(line, "'\"`$|&;<>\n"):
		p.errorf(at, "%s needs a shell, and none runs it: "+
			"words alone, without quotes, pipes and redirections", quote(line))
	}
}

// kernelMeant returns the kernel whose name ends in a word, or is near to it.
func kernelMeant(word string) string {
	known := []string{
		"debian/bookworm", "debian/trixie", "debian/sid", "ubuntu/jammy", "ubuntu/noble", "host",
	}
	for _, kernel := range known {
		if strings.HasSuffix(kernel, "/"+strings.ToLower(word)) {
			return spelling.Meant(kernel)
		}
	}
	return spelling.Meant(spelling.Nearest(word, known))
}

func checkRules(p *problems, n *node, c *Configuration, topology Topology) {
	for _, key := range rulesKeys {
		translates := c.NAT != NoNAT && slices.Contains(topology.Families, familyOf(key))
		for _, t := range rulesOf(n.get(key)) {
			p.refuse(t.Name == "nat" && translates, t.place(t.At),
				"nat: %s and a *nat table of your own exclude each other", c.NAT)
		}
	}
	checkTexts(p, n, topology)
	if nft := n.scalar("nft"); nft != nil && strings.TrimSpace(nft.text) != noRules {
		checkScript(p, nft, true)
		for key, text := range map[string]string{"rules": c.Rules, "rules6": c.Rules6} {
			flushes := rules.NFT(c.NFT).Flushes(ruleFamilies[familyOf(key)])
			if flushes && text != "" && c.RulesBackend == BackendNFT {
				p.warnf(nft.at, "flush ruleset removes %s too, which are loaded before the "+
					"script: leave it out", key)
			}
		}
	}
	if ipvs := n.scalar("ipvs"); ipvs != nil {
		for i, line := range strings.Split(ipvs.text, "\n") {
			checkIPVS(p, ipvs.lineAt(i), line)
		}
	}
	p.refuse(topology.Kind == Server && c.NAT != NoNAT && c.NAT != Redirect, n.place("nat"),
		"nat: %s needs a link to a server; it goes with topology router", c.NAT)
	if slices.Contains(c.Modules.Remove, kernels.Module) && (c.Tracks(IPv4) || c.Tracks(IPv6)) {
		p.errorf(n.get("modules").place("remove"), "nf_conntrack cannot be removed while rules "+
			"use it; a scenario that removes it says rules: none")
	}
}

// checkIPVS checks the frame of a line for ipvsadm -R; the real tool checks the rest in the DUT.
func checkIPVS(p *problems, at Position, line string) {
	commands := []string{"-A", "--add-service", "-a", "--add-server"}
	words := strings.Fields(line)
	if len(words) == 0 || words[0][0] == '#' || line == noRules {
		return
	}
	p.refuse(!slices.Contains(commands, words[0]), at, "%s is not a line of ipvsadm -S: "+
		"those add a service (-A) or a server to one (-a)", quote(strings.TrimSpace(line)))
	for i, word := range words[:len(words)-1] {
		name := words[i+1]
		scheduler := word == "-s" || word == "--scheduler"
		p.refuse(scheduler && !slices.Contains(schedulers, name), at,
			"the kernel has no scheduler %s%s", quote(name), spelling.Hint(name, schedulers))
	}
}

// schedulers are those of IPVS in Linux 6.12; ipvsadm(8).
var schedulers = strings.Fields("rr wrr lc wlc fo ovf lblc lblcr dh sh mh sed nq twos")

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
		p.refuse(len(resolved) > 0 && !slices.Contains(names, e.key), e.at,
			"there is no scenario %s%s", quote(e.key), spelling.Hint(e.key, names))
		items := e.value.items
		if e.value.kind != list {
			items = []*node{e.value}
		}
		for _, item := range items {
			if item.empty() {
				continue
			}
			if text, ok := scalarText(p, item); ok {
				p.refuse(strings.TrimSpace(text) == "", item.at, "the threshold is empty")
				thresholds = append(thresholds, Threshold{e.key, text, item.at})
			}
		}
	}
	return thresholds
}

// guideHash warns of a table that is much larger than its hash. Each entry is in the hash twice, so
// that a chain holds 2 x entries / buckets on average.
func guideHash(p *problems, n *node, c *Configuration) {
	value, ok := c.Sysctl.Get(kernels.KeyMax)
	if !ok {
		return
	}
	at := n.get("sysctl").place(kernels.KeyMax)
	most, err := strconv.ParseInt(value, 10, 64)
	if err != nil || most < 0 {
		p.errorf(at, "%s is not a number of entries", quote(value))
		return
	}
	if most == 0 {
		p.warnf(at, "%s 0 means no limit up to Linux %s, and later kernels refuse it",
			kernels.KeyMax, kernels.LastUnlimited)
		return
	}
	buckets, whose := hashSize(c)
	if most <= 8*buckets {
		return
	}
	suffers := "lookups get slow"
	if kernels.Named(c.Kernel).LimitsChains() {
		suffers = "lookups get slow, and inserts fail (chain_toolong, no log line) well before max"
	}
	p.warnf(at, "max is raised but not the hash: %d entries in %s %d buckets make chains of %d "+
		"entries on average when the table is full; %s. Give buckets too, between max/4 and max",
		most, whose, buckets, 2*most/buckets, suffers)
}

// guideMemory warns of a table that does not fit into the machine.
func guideMemory(p *problems, n *node, c *Configuration) {
	value, _ := c.Sysctl.Get(kernels.KeyMax)
	most, err := strconv.ParseInt(value, 10, 64)
	if err != nil || most < 0 || most > int64(maxCount) {
		return
	}
	buckets, _ := hashSize(c)
	full := Size(kernels.Size{Max: most, Buckets: buckets}.Bytes(0))
	if full > Size(kernels.VisibleMemory(int64(c.Memory))) {
		p.warnf(n.get("sysctl").place(kernels.KeyMax), "a full table of %d entries and its hash "+
			"take %.1f GiB and more, and the machine has %s: allocations fail before it is full",
			most, float64(full)/(1<<30), c.Memory)
	}
}

// hashSize returns how many buckets the DUT's kernel will have, and words where that number comes
// from.
func hashSize(c *Configuration) (buckets int64, whose string) {
	if c.Buckets > 0 {
		return int64(c.Buckets), "the"
	}
	for _, module := range kernels.Loading(c.Modules.Load) {
		if size, ok := kernels.LoadedSize(module); ok && size.Buckets > 0 {
			return size.Buckets, "the module's"
		}
	}
	own := kernels.DefaultSize(kernels.Named(c.Kernel), kernels.VisibleMemory(int64(c.Memory)))
	return own.Buckets, "the kernel's own (about)"
}

// Ruleset returns the rules of the configuration.
func (c Configuration) Ruleset() rules.Ruleset {
	return rules.Read(rules.Texts{
		IPv4: c.Rules, IPv6: c.Rules6, NFT: c.NFT, IPSet: c.IPSet,
	})
}

// Tracks reports whether anything makes the kernel track the connections of a family: since Linux
// 4.14 it does so only where a rule, or an object of nft, needs it, or where a module parameter
// says so.
func (c Configuration) Tracks(family Family) bool {
	return c.Ruleset().Tracks(ruleFamilies[family]) != nil ||
		slices.ContainsFunc(kernels.Loading(c.Modules.Load), func(module string) bool {
			return slices.Contains(strings.Fields(module), "enable_hooks=1")
		})
}
