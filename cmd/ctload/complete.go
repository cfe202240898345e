package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/control"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/vagrant"
)

// argumentCompletions complete the arguments of a command, by its path below ctload.
var argumentCompletions = map[string]cobra.CompletionFunc{
	"run":                first(experiments),
	"search":             first(experiments),
	"vm up":              first(experiments),
	"plan":               first(experiments),
	"explain":            anyFile,
	"import":             anyFile,
	"scenarios validate": experiments,
	"scenarios show":     first(from(shipped)),
	"report":             first(runs),
	"compare":            runs,
	"merge":              runs,
	"history":            first(from(followed)),
	"vm shell":           first(from(nodes)),
	"respond":            first(oneOf(responderKinds...)),
}

// flagCompletions complete the value of a flag without a fixed set of words, by its name, or by the
// path of a command and its name where commands differ.
var flagCompletions = map[string]cobra.CompletionFunc{
	"baseline":      runs,
	"from":          anyFile,
	"highest":       goalWords(goals.Highest),
	"longest":       goalWords(goals.Longest),
	"smallest":      goalWords(goals.Smallest),
	"box":           boxes,
	"connect":       oneOf("qemu:///system", "qemu+ssh://", "qemu+tls://", "qemu+tcp://"),
	"kernel":        commas(func([]string) []string { return guest.KernelNames() }),
	"plan --kernel": cobra.NoFileCompletions, // a version
	"namespace":     anyFile,
	"nft":           anyFile,
	"out":           anyFile,
	"over":          axes,
	"output":        anyFile,
	"report":        reportFiles,
	"runs":          anyFile,
	"rules":         anyFile,
	"rules6":        anyFile,
	"scenario":      commas(scenariosOf),
	"sysctl-file":   anyFile,
}

// addCompletions registers the completions of the arguments and flags of every command with cobra.
// Without a known completion it offers nothing: by default a shell would offer files.
func addCompletions(cmd *cobra.Command) {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	if cmd.ValidArgsFunction = argumentCompletions[path]; cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete := cobra.NoFileCompletions
		for _, key := range []string{f.Name, path + " --" + f.Name} {
			if known := flagCompletions[key]; known != nil {
				complete = known
			}
		}
		if value, ok := f.Value.(*flagValue); ok && value.words != nil {
			complete = oneOf(value.words...)
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // two commands share a flag, or one is visited twice
		}
	})
	for _, child := range cmd.Commands() {
		addCompletions(child)
	}
}

type directive = cobra.ShellCompDirective

// offer returns the candidates that begin with word. A candidate may have a description after a
// tab. The shell adds a space unless a candidate ends in a way that must go on.
func offer(word string, candidates []string) ([]string, directive) {
	shell := cobra.ShellCompDirectiveNoFileComp
	var fitting []string
	for _, candidate := range candidates {
		if strings.HasPrefix(candidate, word) {
			fitting = append(fitting, candidate)
			text, _, _ := strings.Cut(candidate, "\t")
			if strings.HasSuffix(text, "/") || strings.HasSuffix(text, "=") {
				shell |= cobra.ShellCompDirectiveNoSpace
			}
		}
	}
	return fitting, shell
}

// first completes the first argument alone.
func first(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, directive) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

func oneOf(candidates ...string) cobra.CompletionFunc {
	return from(func([]string) []string { return candidates })
}

// from completes one word of a set that may depend on the arguments.
func from(candidates func(args []string) []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]string, directive) {
		return offer(word, candidates(args))
	}
}

// commas completes the last of several words separated by commas, with those not yet given. Only
// the first has its description: cobra's script for bash finds none that has a comma and a
// description.
func commas(candidates func(args []string) []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]string, directive) {
		given := word[:strings.LastIndexByte(word, ',')+1]
		if given == "" {
			return offer(word, candidates(args))
		}
		var list []string
		for _, candidate := range candidates(args) {
			name, _, _ := strings.Cut(candidate, "\t")
			if !slices.Contains(strings.Split(given, ","), name) {
				list = append(list, given+name)
			}
		}
		return offer(word, list)
	}
}

// goalWords completes a goal of ctload search.
func goalWords(e goals.Extreme) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, directive) {
		list := e.Quantities()
		if e == goals.Longest {
			list = nil
			for _, state := range goals.States() {
				list = append(list, string(goals.Timeout)+":"+state)
			}
		}
		return offer(word, list)
	}
}

// axes completes the key of --over.
func axes(_ *cobra.Command, _ []string, word string) ([]string, directive) {
	return offer(word, goals.Axes())
}

var anyFile = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)

func shipped([]string) (list []string) {
	for _, name := range scenarios.Names() {
		if experiment, _, err := scenarios.Load(name); err == nil {
			list = append(list, cobra.CompletionWithDesc(name, experiment.Summary))
		}
	}
	return list
}

// experiments completes the name of a shipped experiment or the path of a file.
func experiments(_ *cobra.Command, _ []string, word string) ([]string, directive) {
	if strings.HasPrefix(word, "~") { // only the shell expands it
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return offer(word, append(shipped(nil), paths(word, hasExtension(".yaml", ".yml"))...))
}

// followed returns the names of the experiments that have runs.
func followed([]string) (names []string) {
	list, _, _ := results.ListRuns(results.RunsFolder)
	for _, l := range list {
		names = append(names, l.Run.Experiment)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// runs completes the path of a run folder, or latest. Runs are in runs/ unless --out says
// otherwise.
func runs(_ *cobra.Command, _ []string, word string) ([]string, directive) {
	if strings.HasPrefix(word, "~") {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	isRun := func(path string) bool {
		_, err := results.Open(path)
		return err == nil
	}
	found := paths(word, isRun)
	if at := slices.Index(found, "runs/"); word == "" && at >= 0 {
		found = slices.Replace(found, at, at+1, paths("runs/", isRun)...)
	}
	return offer(word, append(found, results.LatestRun))
}

func hasExtension(extensions ...string) func(path string) bool {
	return func(path string) bool { return slices.Contains(extensions, filepath.Ext(path)) }
}

// paths returns the paths that begin with prefix: those that accept takes, and folders, with a
// slash at their end, which may contain others. A prefix must begin with a dot to match hidden
// ones.
func paths(prefix string, accept func(path string) bool) (list []string) {
	dir, base := filepath.Split(prefix)
	entries, _ := os.ReadDir(cmp.Or(dir, "."))
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, base) || base == "" && name[0] == '.' {
			continue
		}
		info, err := os.Stat(dir + name) // through links
		switch {
		case err != nil:
		case accept(dir+name) && (info.IsDir() || info.Mode().IsRegular()):
			list = append(list, dir+name)
		case info.IsDir():
			list = append(list, dir+name+"/")
		}
	}
	return list
}

// scenariosOf returns the scenarios of the experiment that the command line names.
func scenariosOf(args []string) (list []string) {
	if len(args) == 0 || args[0] == scenarios.Stdin { // reading it would wait for the terminal
		return nil
	}
	experiment, _, err := scenarios.Load(args[0])
	if err != nil {
		return nil
	}
	for _, r := range experiment.Resolve() {
		for _, name := range []string{r.Base, r.Name} {
			candidate := cobra.CompletionWithDesc(name, r.Summary)
			if !slices.Contains(list, candidate) {
				list = append(list, candidate)
			}
		}
	}
	return list
}

// reportFiles completes FORMAT=FILE.
func reportFiles(_ *cobra.Command, _ []string, word string) ([]string, directive) {
	if strings.Contains(word, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return offer(word, strings.Fields(strings.Join(reports.Formats(), "= ")+"="))
}

// boxes completes a box that Vagrant has, a .box file, or the box that ctload builds.
func boxes(_ *cobra.Command, _ []string, word string) ([]string, directive) {
	list := slices.Concat([]string{vagrant.BuildBox, vagrant.DefaultBox}, vagrant.InstalledBoxes(),
		paths(word, hasExtension(".box")))
	slices.Sort(list)
	return offer(word, slices.Compact(list))
}

func nodes([]string) []string {
	socket, err := control.Socket()
	if err != nil {
		return nil
	}
	about, _ := control.Look(socket)
	return about.Nodes
}
