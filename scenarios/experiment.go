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
	"slices"
	"strings"
)

// Experiment is a loaded and checked experiment file. Its fields hold what all scenarios share;
// [Experiment.Resolve] returns each scenario in full.
type Experiment struct {
	Head
	DUT        Configuration // before any scenario changes it; of a matrix the first values
	Workload   []Entry       // likewise
	Steady     []Expression  // steady states, likewise
	Actions    []Action      // faults and fixes on the time line, likewise
	Thresholds []Threshold   // in the order of the file

	source   []byte    // as read
	root     *node     // extends applied, old names replaced
	problems *problems // keeps the lines of the file for errors found later
	// normalised are the warnings about old names and forms.
	normalised []Warning
	places     map[string]places // by scenario
	resolved   []Resolved
}

// Head is a file without the dut, the workload and the scenarios, which the program reads apart,
// once their overlays are applied. keys.yaml has the meaning of each key of the language.
type Head struct {
	Name          string        `yaml:"experiment" matrix:"no" jsonschema:"required"`
	Extends       string        `yaml:"extends" matrix:"no"`
	Omit          []string      `yaml:"omit"`
	Summary       string        `yaml:"summary" matrix:"no"`
	Documentation Documentation `yaml:"documentation"`
	Topology      Topology      `yaml:"topology"`
	Phases        Phases        `yaml:"phases" matrix:"no"` // of the load's time
	Trials        int           `yaml:"trials"`             // at least 1
	Seed          uint64        `yaml:"seed"`               // 0: the runner draws and records it
	Recovery      Recovery      `yaml:"recovery" matrix:"no"`
	Sampling      Rate          `yaml:"sampling"`
}

// Resolved is one scenario with everything that it inherits: all that a trial needs.
type Resolved struct {
	// Name is unique in the experiment. Where the file gives lists of values (a matrix) it is
	// "base@key=value@key=value".
	Name     string
	Base     string    // the name in the file
	Matrix   []Setting // the values chosen from lists, as in Name; nil without a matrix
	Summary  string
	DUT      Configuration `yaml:"dut"`
	Workload []Entry       `yaml:"workload"`
	Phases   Phases        // the experiment's
	Steady   []Expression  `yaml:"steady"`
	Actions  []Action      `yaml:"actions"`
	Position Position      // of the scenario in the file
}

// places returns where a line and a column of a text of a DUT are written, by its key.
type places map[string]func(line, column int) Position

// Place returns where a line, and a column of it from 1 on, of a text of a scenario's DUT is
// written: of rules, rules6, nft or ipset. Column 0 stands for the line, line 0 for the text.
func (e *Experiment) Place(r Resolved, key string, line, column int) Position {
	if place := e.places[r.Name][key]; place != nil {
		return place(line, column)
	}
	return r.Position
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

// Documentation holds the texts of an experiment for its readers. The program shows it and decides
// nothing by it.
type Documentation struct {
	Group   Group    `yaml:"group"`
	Story   string   `yaml:"story" matrix:"no"`
	Watch   string   `yaml:"watch" matrix:"no"`
	Expect  string   `yaml:"expect" matrix:"no"`
	Sources []string `yaml:"sources"`
}

// Recovery bounds how long the DUT is watched after the load has ended. In a file it is AtMost
// alone, or a mapping. Where both are equal the time is fixed.
type Recovery struct {
	AtLeast Duration `yaml:"at-least"`
	AtMost  Duration `yaml:"at-most"`
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
	Claim    Group = "claim"    // a statement of folklore, decided by figures
)

// Words returns the valid values.
func (Group) Words() []string { return words(Classic, WriteUp, Incident, Cure, Chaos, Claim) }

var groupTitles = map[Group]string{
	Classic:  "Classics: textbook loads against the table, to start from",
	WriteUp:  "Write-ups: published incidents, with their cures and their mistakes",
	Incident: "Incidents: the classes that operators report, the fault beside the cure",
	Cure:     "Cures: what a well-known one does, and what it does not",
	Chaos:    "Chaos: faults and emergency fixes in the middle of a load",
	Claim:    "Claims: statements of folklore, each decided by figures",
}

// Title returns a heading for the experiments of a group.
func (g Group) Title() string { return cmp.Or(groupTitles[g], "Others") }

// Topology describes the wiring of the DUT. In a file it is the kind alone, or a mapping.
type Topology struct {
	Kind     TopologyKind `yaml:"kind"`
	Families []Family     `yaml:"families"`
	Clients  int          `yaml:"clients"`
	Servers  int          `yaml:"servers"`
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

// Configuration is one complete kernel configuration of the DUT: the dut of a file with a
// scenario's overrides applied.
type Configuration struct {
	// Kernel is a name such as "debian/bookworm", "host", or the path of a kernel image.
	Kernel        string       `yaml:"kernel"`
	KernelModules string       `yaml:"kernel-modules" matrix:"no"` // "" beside a name
	VCPUs         int          `yaml:"vcpus"`
	Memory        Size         `yaml:"memory"`
	Rules         string       `yaml:"rules" matrix:"no"`
	Rules6        string       `yaml:"rules6" matrix:"no"`
	RulesBackend  RulesBackend `yaml:"rules-backend"`
	NFT           string       `yaml:"nft" matrix:"no"`
	IPSet         string       `yaml:"ipset" matrix:"no"`
	IPVS          string       `yaml:"ipvs" matrix:"no"`
	NAT           NAT          `yaml:"nat"` // its rules are part of Rules and Rules6
	Sysctl        Settings     `yaml:"sysctl"`
	Buckets       Count        `yaml:"buckets"`
	Modules       Modules      `yaml:"modules"`
	Modprobe      string       `yaml:"modprobe" matrix:"no"` // in a file alone: becomes Modules
	Setup         []string     `yaml:"setup"`
	Cards         Cards        `yaml:"interfaces" matrix:"no"`
	Addresses     Addresses    `yaml:"addresses" matrix:"no"` // in the texts: placeholders
	Listen        []string     `yaml:"listen"`                // as 15006, 53/udp, server:8080
	Refused       []string     `yaml:"refused"`
}

// KernelIsFile reports whether the kernel is given by the path of its image.
func (c Configuration) KernelIsFile() bool {
	first, _, isPath := strings.Cut(c.Kernel, "/")
	return isPath && slices.Contains([]string{"", ".", ".."}, first)
}

// Modules are the kernel modules that a scenario loads before its rules and sysctls, and removes
// after them.
type Modules struct {
	Load   []string `yaml:"load"`
	Remove []string `yaml:"remove"`
}

// Setting is a sysctl and its value, or a key and value chosen from a matrix.
type Setting struct {
	Key   string // of a sysctl, names in it may be patterns, as net.ipv4.conf.*.rp_filter
	Value string // of a sysctl; empty: patterns leave the key out
	// Optional says that the DUT's kernel may lack the sysctl, or refuse the value.
	Optional bool
}

// Settings are sysctls in the order in which they are applied, each key once, in dotted form.
type Settings []Setting

// Get returns the value of a key.
func (s Settings) Get(key string) (string, bool) {
	i := slices.IndexFunc(s, func(setting Setting) bool { return setting.Key == key })
	if i < 0 {
		return "", false
	}
	return s[i].Value, true
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
