package results

import (
	"slices"
	"strings"
)

// kind holds the consequences of a [Code].
type kind struct {
	host bool // the host spoilt the trial: another try may succeed
	// either: the load did, and would again, unless a reason of the host's own is beside it.
	either bool
	cure   string // what the reader changes; empty where only a new run helps
}

// busy is the cure where the host had too little time.
const busy = "leave the host idle CPUs: end its other work, give the DUT fewer vCPUs, or " +
	"--parallel 1"

// kinds is the table of the codes: which are the host's own, and the cure of each.
var kinds = map[Code]kind{
	CodePacing:     {host: true, cure: "ask for a lower rate, or " + busy},
	CodeStalled:    {host: true, cure: busy},
	CodeClock:      {host: true, cure: busy},
	CodeSteal:      {host: true, cure: busy},
	CodeLostCPU:    {host: true, cure: busy},
	CodeLostFrames: {host: true, cure: "offer less than the links carried, or " + busy},
	CodeOverload:   {either: true, cure: "offer less than the links carried"},

	CodeInterrupted: {cure: "let the run end"},
	CodeBroken: {cure: "read console.log in the trial's folder; ctload doctor names what the " +
		"host lacks"},
	CodeUnread: {cure: "use a kernel that has this figure, or report the fault with its release"},
	CodeNotAsAsked: {cure: "ask for what the kernel has (readback.json in the trial's folder), " +
		"or list the module that has the setting under modules"},
	CodeChanged: {cure: "end what changes the setting in the DUT, such as a service of the box " +
		"(readback.json has both states)"},
	CodeNotRefused: {cure: "correct the command line under refused"},
	CodeAction:     {cure: "ask for an action that this DUT and its kernel can do"},
	CodeUnsteady:   {cure: "begin the first action later, or ask for less under steady"},
	CodeConsole:    {cure: "give the DUT more memory where it ran out; read console.log otherwise"},
	CodeOwnTable:   {cure: "remove the rules that track connections where the load is made"},
	CodeUnsampled:  {cure: "read console.log and kernel.log in the trial's folder"},
	CodeNoLoad:     {cure: "give the workload an entry whose time comes before the trial ends"},
	CodeUnbalanced: {cure: "report the fault, with the run folder"},
	CodeUnlike:     {cure: "measure all trials with one kernel, box and size of machine"},
	CodeUnknown:    {},

	CodeWorkers: {
		cure: "ask for less at a time, or give the load more of the host's CPUs",
	},
	GeneratorLimit("rate"):         {cure: "ask for a lower rate"},
	GeneratorLimit("descriptors"):  {cure: "raise the limit of open files (ulimit -n)"},
	GeneratorLimit("source-ports"): {cure: "give the entry more sources, or more ports"},
	GeneratorLimit("tuples"):       {cure: "give the entry more sources, or more ports"},
	GeneratorLimit("memory"):       {cure: "ask for a lower rate, or less at a time"},
	GeneratorLimit("packets"):      {cure: "ask for a lower rate"},
	GeneratorLimit("netfilter"): {
		cure: "remove the rules that drop the load where it is made, or raise nf_conntrack_max " +
			"there",
	},
	GeneratorLimit("conntrack"): {
		cure: "remove the rules that track connections where the load is made",
	},
}

// Spoilt reports whether a trial is INVALID only for reasons of the host's own, so that another try
// may measure it validly.
func (t *Trial) Spoilt() bool {
	host := func(c Code) bool { return kinds[c].host }
	other := func(c Code) bool { return !kinds[c].host && !kinds[c].either }
	return t.Verdict == Invalid && slices.ContainsFunc(t.InvalidCodes, host) &&
		!slices.ContainsFunc(t.InvalidCodes, other)
}

// NotAsAsked reports whether the DUT's kernel did not become what the scenario asks for, as it
// would not in another trial.
func (t *Trial) NotAsAsked() bool { return slices.Contains(t.InvalidCodes, CodeNotAsAsked) }

// WhyInvalid words the reasons of an INVALID trial, each with its code, and the cures.
func (t *Trial) WhyInvalid() string {
	var reasons, cures []string
	for i, text := range t.Invalid {
		if i < len(t.InvalidCodes) {
			code := t.InvalidCodes[i]
			text = strings.TrimRight(text, ".") + " [" + string(code) + "]"
			if cure := kinds[code].cure; cure != "" && !slices.Contains(cures, cure) {
				cures = append(cures, cure)
			}
		}
		reasons = append(reasons, text)
	}
	words := strings.Join(reasons, "; ") + "."
	if len(cures) > 0 {
		words += " Fix: " + strings.Join(cures, "; ") + "."
	}
	return words
}
