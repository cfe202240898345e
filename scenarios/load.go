package scenarios

import (
	"bytes"
	"cmp"
	"embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/internal/textfile"
)

//go:embed library/*.yaml
var library embed.FS

// Names returns the names of the shipped experiments, sorted.
func Names() []string {
	files, err := library.ReadDir("library")
	if err != nil {
		panic(err) // the folder is embedded
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(file.Name(), ".yaml"))
	}
	return names
}

// Shipped returns the text of a shipped experiment.
func Shipped(name string) ([]byte, error) {
	data, err := library.ReadFile("library/" + name + ".yaml")
	if err != nil {
		return nil, unknownExperiment(name)
	}
	return data, nil
}

func unknownExperiment(name string) error {
	names := Names()
	meant := spelling.Meant(spelling.Nearest(name, names))
	return invalidf(fs.ErrNotExist, "there is no shipped experiment %s and no such file%s "+
		"(shipped: %s)", quote(name), meant, strings.Join(names, ", "))
}

// Stdin is the name of standard input in place of a file.
const Stdin = "-"

// Load reads and parses an experiment, see [Read] and [Parse].
func Load(nameOrPath string) (*Experiment, []Warning, error) {
	name, data, err := Read(nameOrPath, os.Stdin)
	if err != nil {
		return nil, nil, err
	}
	return Parse(name, data)
}

// Read reads the text of an experiment, and returns its name for messages: a shipped one by its
// name, a file by its path, or with [Stdin] the content of stdin. A word with a slash, or with the
// ending .yaml or .yml, is a path; any other word is first the name of a shipped experiment. The
// error is an [*InvalidError].
func Read(nameOrPath string, stdin io.Reader) (name string, data []byte, err error) {
	if nameOrPath == Stdin {
		if data, err = textfile.ReadAll(stdin, maxBytes); err != nil {
			return "", nil, invalidf(err, "reading the experiment from standard input: %v", err)
		}
		return "standard input", data, nil
	}
	ending := filepath.Ext(nameOrPath)
	if !strings.ContainsRune(nameOrPath, '/') && ending != ".yaml" && ending != ".yml" {
		if data, err := Shipped(nameOrPath); err == nil {
			return nameOrPath + ".yaml", data, nil
		}
		if info, err := os.Stat(nameOrPath); err != nil || info.IsDir() {
			return "", nil, unknownExperiment(nameOrPath)
		}
	}
	if data, err = textfile.Read(nameOrPath, maxBytes); err != nil {
		return "", nil, invalidf(err, "reading the experiment: %v", err)
	}
	return nameOrPath, data, nil
}

// Parse parses an experiment from a text; name is the file name in messages. The error is an
// [*InvalidError] with everything that is wrong; Parse returns warnings with and without it.
//
// Paths in the experiment are relative to the folder of name.
func Parse(name string, data []byte) (*Experiment, []Warning, error) {
	return parseWith(filesBeside(name), name, data)
}

func parseWith(f *files, name string, data []byte) (*Experiment, []Warning, error) {
	p := newProblems()
	p.files = f
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as some editors begin a file
	e := &Experiment{source: slices.Clone(data), problems: p}
	if root := parse(p, name, data); root != nil {
		e.root = extendShipped(p, normalise(p, root))
		e.normalised = slices.Clone(p.warnings)
		e.read()
	}
	if err := p.err(); err != nil {
		return nil, sorted(p.warnings), err
	}
	return e, sorted(p.warnings), nil
}

// extendShipped overlays a file on the shipped experiment that it extends. Shipped experiments
// extend nothing.
func extendShipped(p *problems, root *node) *node {
	omit, extends := root.get("omit"), root.scalar("extends")
	if extends == nil {
		p.refuse(omit != nil, root.keyPlace("omit"),
			"omit leaves out scenarios of an experiment that is extended; there is no extends")
		return root // decoding the head reports an invalid name
	}
	data, err := Shipped(extends.text)
	if err != nil || strings.ContainsAny(extends.text, "/\\") {
		p.errorf(extends.at, "there is no shipped experiment %s%s",
			quote(extends.text), spelling.Hint(extends.text, Names()))
		return root
	}
	file := "shipped " + extends.text + ".yaml"
	base := parse(p, file, data)
	if base == nil {
		return root
	}
	p.inherited = &inheritance{file, extends.text, extends.at, base}
	if own := root.given("scenarios"); own != nil && own.empty() {
		base = withoutScenarios(base, base.get("scenarios").keys())
	} else if omit != nil {
		base = withoutScenarios(base, omitted(p, extends.text, omit, base.get("scenarios").keys()))
	}
	return overlayFile(p, normalise(p, base).without("experiment"), root)
}

// omitted returns the scenarios that a file leaves out of an experiment; known are all of its
// scenarios.
func omitted(p *problems, experiment string, omit *node, known []string) []string {
	var names []string
	for _, item := range omit.items {
		p.refuse(!slices.Contains(known, item.text), item.at, "%s has no scenario %s%s",
			experiment, quote(item.text), spelling.Hint(item.text, known))
		names = append(names, item.text)
	}
	return names
}

func withoutScenarios(root *node, names []string) *node {
	root = root.change("scenarios", func(n *node) *node { return n.without(names...) })
	return root.change("thresholds", func(n *node) *node {
		return n.without(slices.DeleteFunc(n.keys(), func(key string) bool {
			base, _ := variantOf(key)
			return !slices.Contains(names, base)
		})...)
	})
}

func (e *Experiment) read() {
	p := e.problems
	e.Head = Head{Recovery: Recovery{AtMost: DefaultRecovery}, Sampling: DefaultSampling}
	// Keys that begin with x- are a place for anchors that several parts of a file share.
	private := slices.DeleteFunc(e.root.keys(), func(key string) bool {
		return !strings.HasPrefix(key, "x-")
	})
	decode(p, e.root.without(private...), &e.Head,
		"dut", "workload", "scenarios", "thresholds", "steady", "actions")
	checkHead(p, e, e.root)
	e.resolve()
	e.Thresholds = readThresholds(p, e.root.get("thresholds"), e.resolved)
}

// resolve overlays, expands and decodes every scenario.
func (e *Experiment) resolve() {
	p := e.problems
	e.places = map[string]places{}
	dut := cmp.Or(e.root.get("dut"), &node{kind: mapping, at: e.root.at})
	workload := e.root.get("workload")
	if workload == nil {
		p.refuse(!e.root.has("extends") || !p.failed(e.root.place("extends")), e.root.at,
			"there is no workload: a list of generators and probes")
		return
	}
	if workload.kind != list {
		p.errorf(workload.at, "the workload must be a list of generators and probes, not %s",
			workload.what())
		return
	}
	none := &node{kind: list, at: e.root.at}
	steady := needList(p, e.root, "steady", steadyWhat, none)
	actions := needList(p, e.root, "actions",
		"actions must be a list; each has a kind (action: flush) and a time (at: 10s)", none)
	all := &node{kind: mapping, entries: []entry{
		{"dut", dut.at, dut}, {"workload", workload.at, workload},
		{"steady", steady.at, steady}, {"actions", actions.at, actions},
	}}
	base := e.variants(all, Resolved{})
	if len(base) == 0 {
		return
	}
	first := base[0]
	e.DUT, e.Workload, e.Steady, e.Actions = first.DUT, first.Workload, first.Steady, first.Actions

	scenarios := e.root.get("scenarios")
	switch {
	case scenarios == nil || scenarios.empty():
		scenarios = &node{kind: mapping, entries: []entry{{"baseline", dut.at, &node{at: dut.at}}}}
	case scenarios.kind != mapping:
		p.errorf(scenarios.at, "scenarios must be names with the changes that each makes to the "+
			"dut, not %s", scenarios.what())
		return
	}
	e.resolved = nil
	for _, s := range scenarios.entries {
		for _, r := range e.scenario(s, all) {
			namesake := func(other Resolved) bool { return other.Name == r.Name }
			p.refuse(slices.ContainsFunc(e.resolved, namesake), s.at,
				"two scenarios get the name %s", quote(r.Name))
			e.resolved = append(e.resolved, r)
		}
		if len(e.resolved) > maxScenarios {
			p.errorf(s.at, "more than %d scenarios", maxScenarios)
			return
		}
	}
}

// scenario resolves one scenario of the file into one or, with a matrix, several.
func (e *Experiment) scenario(s entry, all *node) []Resolved {
	p := e.problems
	checkName(p, s.at, aScenario, s.key)
	r := Resolved{Name: s.key, Position: s.at}
	if s.value.empty() {
		return e.variants(all, r)
	}
	if s.value.kind != mapping {
		p.errorf(s.value.at, "a scenario must be the changes that it makes to the dut, not %s",
			s.value.what())
		return nil
	}
	decode(p, s.value.get("summary"), &r.Summary)
	workload := overlayWorkload(p, all.get("workload"), s.value)
	if workload.kind != list {
		p.errorf(workload.at, "a scenario changes entries of the workload by name, "+
			"or gives a list of its own; this is %s", workload.what())
		return nil
	}
	dut := s.value.without("summary", "workload", "actions", "steady")
	for key, value := range map[string]*node{
		"dut":      overlayDUT(all.get("dut"), dut),
		"workload": workload,
		"steady":   needList(p, s.value, "steady", steadyWhat, all.get("steady")),
		"actions":  overlayActions(p, all.get("actions"), s.value),
	} {
		all = all.with(key, value.at, value)
	}
	return e.variants(all, r)
}

// variants expands and decodes a tree with the keys of [Resolved]; r holds what is known of the
// scenario.
func (e *Experiment) variants(tree *node, r Resolved) []Resolved {
	p := e.problems
	names := map[string][]string{}
	for _, key := range []string{"workload", "actions"} {
		names[key] = itemNames(tree.get(key))
	}
	var all []Resolved
	for _, v := range expand(p, tree, names) {
		one := r
		decode(p, v.tree, &one)
		one.Name = variantName(r.Name, v.matrix)
		one.Base, one.Matrix = variantOf(one.Name)
		one.Phases = e.Phases
		finish(&one, v.tree, names, e.Topology)
		check(p, v.tree, &one, e.Topology)
		e.places[one.Name] = placesOf(v.tree.get("dut"))
		all = append(all, one)
	}
	return all
}

// Resolve returns the scenarios that will run, each in full, in the order of the file.
func (e *Experiment) Resolve() []Resolved { return slices.Clone(e.resolved) }

// Select keeps the named scenarios, in the order of the file. A name is a scenario's own, or its
// base name, which means every variant of it. An unknown name is an [*InvalidError], and then
// nothing changes.
func (e *Experiment) Select(names []string) error {
	known := namesOf(e.resolved)
	for _, name := range names {
		if !slices.Contains(known, name) {
			hint := spelling.Hint(name, known)
			return invalidf(nil, "%s has no scenario %s%s", e.Name, quote(name), hint)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(e.resolved), func(r Resolved) bool {
		return !slices.Contains(names, r.Name) && !slices.Contains(names, r.Base)
	})
	if len(kept) == 0 {
		all := strings.Join(known, ", ")
		return invalidf(nil, "no scenario is selected; %s has %s", e.Name, all)
	}
	e.resolved = kept
	e.Thresholds = slices.DeleteFunc(slices.Clone(e.Thresholds), func(t Threshold) bool {
		return !slices.ContainsFunc(kept, t.AppliesTo)
	})
	return nil
}

// namesOf returns the names that scenarios can be selected by: own names, and base names before
// their first variant.
func namesOf(scenarios []Resolved) []string {
	var names []string
	for _, r := range scenarios {
		for _, name := range []string{r.Base, r.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// SetKernels runs every scenario on the given kernels, whatever the file says: with more than one,
// each scenario becomes one for each kernel. Call it before [Experiment.Select]. A word that names
// no kernel is an [*InvalidError], and then nothing changes.
func (e *Experiment) SetKernels(kernels []string) error {
	if len(kernels) == 0 {
		return invalidf(nil, "no kernel is given")
	}
	at := Position{File: "--kernel"}
	values := &node{kind: list, at: at} // of one value: no axis of a matrix
	for _, kernel := range kernels {
		values.items = append(values.items, &node{kind: scalar, at: at, text: kernel})
	}
	root := e.root
	dut := root.get("dut")
	if dut == nil || dut.kind != mapping {
		dut = &node{kind: mapping, at: root.at}
	}
	root = root.with("dut", dut.at, dut.without("kernel-modules").with("kernel", at, values))
	root = root.change("scenarios", func(scenarios *node) *node {
		return scenarios.each(func(s *node) *node { return s.without("kernel", "kernel-modules") })
	})
	p := newProblems()
	p.files, p.sources, p.inherited = e.problems.files, e.problems.sources, e.problems.inherited
	other := *e
	other.root, other.problems = root, p
	other.resolve()
	if err := p.err(); err != nil {
		return err
	}
	other.Thresholds = readThresholds(p, root.get("thresholds"), other.resolved)
	*e = other
	return nil
}

// EntryPosition returns the position of an entry of the workload in the file, or otherwise for an
// entry that only a scenario has.
func (e *Experiment) EntryPosition(name string, otherwise Position) Position {
	workload := e.root.get("workload") // a list: others are refused
	if i := slices.Index(itemNames(workload), name); i >= 0 {
		return workload.items[i].at
	}
	return otherwise
}

// Invalid returns an error about a place in the experiment's file, for what only the program that
// runs it can check, such as a threshold that does not compile.
func (e *Experiment) Invalid(at Position, message string) *InvalidError {
	at, message = e.problems.own(at, message)
	mark := excerpt(e.problems.sources[at.File], at)
	return &InvalidError{Problems: []Problem{{Position: at, Message: message, Excerpt: mark}}}
}
