// Package scenarios is the experiment language: one YAML file says which machine is under test,
// which load it gets and which kernel configurations are compared. The package loads such files
// strictly, resolves every scenario to its complete configuration, and ships a library of
// experiments. docs/language.md is the reference. The package touches neither the network nor a
// virtual machine.
//
// A file is read in five steps, each in its own source file:
//
//   - parse (tree.go, build.go): YAML becomes a tree of [node], anchors and merge keys expanded,
//     every node with its line and column;
//   - normalise (normalise.go): old spellings become current ones, with a [Warning];
//   - overlay (overlay.go): extends, then the dut and each scenario's overrides on top of it;
//   - expand (matrix.go): a list where one value is meant gives one scenario for each value;
//   - decode and check (decode.go, check.go): the Go types, units, and combinations.
//
// Whatever is wrong is collected in an [InvalidError], so that one reading shows all faults of a
// file.
package scenarios

import (
	"cmp"
	"strings"
)

// Experiment is a loaded and checked experiment file. Its fields hold what all scenarios share;
// [Experiment.Resolve] returns each scenario in full.
type Experiment struct {
	Name          string
	Summary       string
	Documentation Documentation
	Topology      Topology
	DUT           Configuration // before any scenario changes it; of a matrix the first values
	Workload      []Entry       // likewise
	Phases        Phases        // of the load's time; nil when the file gives none
	Steady        []Expression  // steady states, before any scenario changes them
	Actions       []Action      // faults and fixes on the time line, likewise
	Trials        int           // at least 1
	Seed          uint64        // 0: the runner draws one and records it
	Recovery      Recovery
	// Sampling is how often the DUT is sampled.
	Sampling   Rate
	Thresholds []Threshold // in the order of the file

	source   []byte    // as read
	root     *node     // extends applied, old names replaced
	problems *problems // keeps the lines of the file for errors found later
	resolved []Resolved
}

// Resolved is one scenario with everything that it inherits: all that a trial needs.
type Resolved struct {
	// Name is unique in the experiment. Where the file gives lists of values (a matrix) it is
	// "base@key=value@key=value".
	Name     string
	Base     string    // the name in the file
	Matrix   []Setting // the values chosen from lists, as in Name; nil without a matrix
	Summary  string
	DUT      Configuration
	Workload []Entry
	Phases   Phases // the experiment's
	Steady   []Expression
	Actions  []Action
	// Position is where the file defines the scenario.
	Position Position
}

// Threshold is an expression over the figures of a trial that must hold, such as
// "conntrack.drop == 0". This package does not compile it.
type Threshold struct {
	Scenario   string // a scenario's name or base name, or "all"
	Expression string
	Position   Position
}

// AppliesTo reports whether a threshold is about a scenario.
func (t Threshold) AppliesTo(r Resolved) bool {
	return t.Scenario == allScenarios || t.Scenario == r.Name || t.Scenario == r.Base
}

const allScenarios = "all"

// Documentation is what an experiment tells its readers. The program shows it and decides nothing
// by it.
type Documentation struct {
	Group   Group    `yaml:"group,omitempty" jsonschema_description:"what kind of experiment it is: lists are ordered by it"`
	Story   string   `yaml:"story,omitempty" matrix:"no" jsonschema_description:"the incident that the experiment reproduces"`
	Watch   string   `yaml:"watch,omitempty" matrix:"no" jsonschema_description:"which figures to look at"`
	Expect  string   `yaml:"expect,omitempty" matrix:"no" jsonschema_description:"what the figures should show, and why"`
	Sources []string `yaml:"sources,omitempty" jsonschema_description:"where the story comes from"`
}

// Recovery bounds how long the DUT is watched after the load has ended. In a file it is AtMost
// alone, or a mapping. Where both are equal the time is fixed.
type Recovery struct {
	AtLeast Duration `yaml:"at-least,omitempty" jsonschema_description:"watch for so long whatever happens; default 0s"`
	AtMost  Duration `yaml:"at-most,omitempty" jsonschema_description:"watch no longer; default 5s, or at-least where that is more"`
}

// Group is the kind of an experiment; "" where the file does not say.
type Group string

// The groups, in the order of lists.
const (
	Classic  Group = "classic"  // a textbook load against the table: a first experiment
	WriteUp  Group = "write-up" // a published write-up of an incident, with its cures and mistakes
	Incident Group = "incident" // a class of incidents that operators report
	Cure     Group = "cure"     // a well-known cure, by itself
	Chaos    Group = "chaos"    // faults and emergency fixes on the time line of a trial
)

// Words returns the valid values.
func (Group) Words() []string { return words(Classic, WriteUp, Incident, Cure, Chaos) }

var groupTitles = map[Group]string{
	Classic:  "Classics: textbook loads against the table, to start from",
	WriteUp:  "Write-ups: published incidents, with their cures and their mistakes",
	Incident: "Incidents: the classes that operators report, the fault beside the cure",
	Cure:     "Cures: what a well-known one does, and what it does not",
	Chaos:    "Chaos: faults and emergency fixes in the middle of a load",
}

// Title returns a heading for the experiments of a group.
func (g Group) Title() string { return cmp.Or(groupTitles[g], "Others") }

// Topology is how the DUT is wired. In a file it is the kind alone, or a mapping.
type Topology struct {
	Kind     TopologyKind `yaml:"kind,omitempty" jsonschema_description:"server: connections end on the DUT; router: the DUT forwards them from the client link to the server link"`
	Families []Family     `yaml:"families,omitempty" jsonschema_description:"the address families of the links and of the load; default [ipv4]"`
	Clients  int          `yaml:"clients,omitempty" jsonschema_description:"number of client nodes, named client (or client1), client2, ...; default 1"`
	Servers  int          `yaml:"servers,omitempty" jsonschema_description:"router only: number of server nodes, named server (or server1), server2, ...; default 1"`
}

// TopologyKind says where connections end.
type TopologyKind string

// The topologies.
const (
	Server TopologyKind = "server" // client - DUT; INPUT and OUTPUT
	Router TopologyKind = "router" // client - DUT - server; FORWARD
)

// Words returns the valid values.
func (TopologyKind) Words() []string { return words(Server, Router) }

// Family is an address family.
type Family string

// The address families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Words returns the valid values.
func (Family) Words() []string { return words(IPv4, IPv6) }

// suffix returns what the names of keys and placeholders of the family end in.
func (f Family) suffix() string {
	if f == IPv6 {
		return "6"
	}
	return ""
}

// The defaults of a file.
const (
	DefaultKernel            = "debian/bookworm"
	DefaultVCPUs             = 1
	DefaultMemory   Size     = 512 << 20
	DefaultTrials            = 1
	DefaultRecovery Duration = 5e9 // 5s, at most
	DefaultSampling Rate     = 10
)

// document is the head of a file: all but the dut, the workload and the scenarios. Those are
// decoded separately, once their overlays are applied.
type document struct {
	Experiment    string        `yaml:"experiment,omitempty" matrix:"no" jsonschema:"required" jsonschema_description:"the name of the experiment: letters, digits, - _ ."`
	Extends       string        `yaml:"extends,omitempty" matrix:"no" jsonschema_description:"a shipped experiment whose parts this file overrides"`
	Omit          []string      `yaml:"omit,omitempty" jsonschema_description:"with extends: scenarios of the shipped experiment that this one leaves out"`
	Summary       string        `yaml:"summary,omitempty" matrix:"no" jsonschema_description:"one line"`
	Documentation Documentation `yaml:"documentation,omitempty" jsonschema_description:"for readers; the program only shows it"`
	Topology      Topology      `yaml:"topology,omitempty" jsonschema_description:"server or router, or a mapping; default server"`
	Phases        Phases        `yaml:"phases,omitempty" matrix:"no" jsonschema_description:"named parts of the load's time, one after the other, with their lengths; a generator with phase starts and ends with it"`
	Trials        int           `yaml:"trials,omitempty" jsonschema_description:"fresh boots of each scenario; default 1"`
	Seed          uint64        `yaml:"seed,omitempty" jsonschema_description:"of the order of the trials; drawn and recorded when it is not given"`
	Recovery      Recovery      `yaml:"recovery,omitempty" matrix:"no" jsonschema_description:"how long the DUT is watched after the load: at most so long, or a mapping; it ends early when new connections work again and nothing changes any more; default 5s"`
	Sampling      Rate          `yaml:"sampling,omitempty" jsonschema_description:"how often the DUT is sampled; default 10/s"`
}

// Configuration is one complete kernel configuration of the DUT: the dut of a file with a
// scenario's overrides applied.
type Configuration struct {
	// Kernel is a name such as "debian/bookworm", "host", or the path of a kernel image.
	Kernel string `yaml:"kernel,omitempty" jsonschema_description:"debian/bookworm, debian/trixie, ..., host (the kernel of this machine), or the path of an image; default debian/bookworm"`
	// KernelModules is the folder with the modules of a kernel given by path; "" beside a name.
	KernelModules string       `yaml:"kernel-modules,omitempty" matrix:"no" jsonschema_description:"beside a kernel given by path: its modules folder, as /lib/modules/6.12.0; default: lib/modules/RELEASE near the image, or this host's"`
	VCPUs         int          `yaml:"vcpus,omitempty" jsonschema_description:"number of CPUs of the DUT; default 1"`
	Memory        Size         `yaml:"memory,omitempty" jsonschema_description:"memory of the DUT; its kernel sizes the table by it; default 512MiB"`
	Rules         string       `yaml:"rules,omitempty" matrix:"no" jsonschema_description:"iptables-save text; a scenario replaces the tables that it gives; none: no rules"`
	Rules6        string       `yaml:"rules6,omitempty" matrix:"no" jsonschema_description:"the same for IPv6, ip6tables-save text"`
	RulesBackend  RulesBackend `yaml:"rules-backend,omitempty" jsonschema_description:"which iptables loads the rules: nft (default) or legacy"`
	NFT           string       `yaml:"nft,omitempty" matrix:"no" jsonschema_description:"an nft script, loaded after the rules; a scenario replaces it whole; none: no script"`
	IPVS          string       `yaml:"ipvs,omitempty" matrix:"no" jsonschema_description:"services of the kernel's load balancer, as ipvsadm -S saves them; a scenario replaces them whole; none: no services"`
	// The rules of NAT are part of Rules (and Rules6).
	NAT     NAT      `yaml:"nat,omitempty" jsonschema_description:"address translation by the DUT, written for the links of the lab"`
	Sysctl  Settings `yaml:"sysctl,omitempty" jsonschema_description:"kernel settings, applied in this order"`
	Buckets Count    `yaml:"buckets,omitempty" jsonschema_description:"size of the conntrack hash (nf_conntrack_buckets); the kernel's own when it is not given"`
	Modules Modules  `yaml:"modules,omitempty" jsonschema_description:"kernel modules"`
	// Refused are faulty command lines, which the DUT's own tools refuse.
	Refused []string `yaml:"refused,omitempty" jsonschema_description:"command lines of sysctl, iptables, ip6tables or nft that the tool refuses for a mistake in them: run after everything else is set; one that succeeds makes the trial invalid"`
}

// KernelIsFile reports whether the kernel is given by the path of its image.
func (c Configuration) KernelIsFile() bool {
	return strings.HasPrefix(c.Kernel, "/") || strings.HasPrefix(c.Kernel, "./") || strings.HasPrefix(c.Kernel, "../")
}

// Modules are the kernel modules that a scenario loads before its rules and sysctls, and removes
// after them.
type Modules struct {
	Load   []string `yaml:"load,omitempty" jsonschema_description:"loaded before rules and sysctls, in this order; a name may be followed by parameters, as \"nf_conntrack hashsize=4096\""`
	Remove []string `yaml:"remove,omitempty" jsonschema_description:"removed after the rules are loaded, in this order; modules that rules need cannot be"`
}

// Setting is a sysctl and its value, or a key and value chosen from a matrix.
type Setting struct {
	Key   string
	Value string
}

// Settings are sysctls in the order in which they are applied, each key once, in dotted form.
type Settings []Setting

// Get returns the value of a key.
func (s Settings) Get(key string) (string, bool) {
	for _, setting := range s {
		if setting.Key == key {
			return setting.Value, true
		}
	}
	return "", false
}

// RulesBackend is the kernel interface that iptables uses.
type RulesBackend string

// The back-ends.
const (
	BackendNFT    RulesBackend = "nft"    // iptables-nft, nf_tables
	BackendLegacy RulesBackend = "legacy" // iptables-legacy, ip_tables
)

// Words returns the valid values.
func (RulesBackend) Words() []string { return words(BackendNFT, BackendLegacy) }

// NAT is an address translation for which the language writes the rules.
type NAT string

// The translations.
const (
	NoNAT NAT = "none"
	// Masquerade: the router gives connections to the server link its own address there.
	Masquerade NAT = "masquerade"
	// SNAT: the same with the address written in the rule.
	SNAT NAT = "snat"
	// DNAT: connections to the router's address on the client link go to the server.
	DNAT NAT = "dnat"
	// Redirect: TCP connections from the client link end on port 80 of the DUT, whatever their
	// destination port.
	Redirect NAT = "redirect"
)

// Words returns the valid values.
func (NAT) Words() []string { return words(NoNAT, Masquerade, SNAT, DNAT, Redirect) }
