package main

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	"vm up":              first(experiments),
	"plan":               first(experiments),
	"scenarios validate": experiments,
	"scenarios show":     first(from(shipped)),
	"report":             first(runs),
	"compare":            runs,
	"vm shell":           first(from(nodes)),
	"respond":            first(oneOf(responderKinds...)),
}

// flagCompletions complete the value of a flag without a fixed set of words, by its name, or by the
// path of a command and its name where commands differ.
var flagCompletions = map[string]cobra.CompletionFunc{
	"baseline":      runs,
	"box":           boxes,
	"connect":       unfinished("qemu:///system", "qemu+ssh://", "qemu+tls://", "qemu+tcp://"),
	"kernel":        commas(func(*cobra.Command, []string) []string { return guest.KernelNames() }),
	"plan --kernel": cobra.NoFileCompletions, // a version
	"namespace":     anyFile,
	"out":           anyFile,
	"output":        anyFile,
	"report":        reportFiles,
	"scenario":      commas(scenariosOf),
}

// addCompletions registers the completions of the arguments and flags of every command with cobra.
// Without a known completion it offers nothing: by default a shell would offer files.
func addCompletions(cmd *cobra.Command) {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	if cmd.ValidArgsFunction = argumentCompletions[path]; cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete := flagCompletions[path+" --"+f.Name]
		if complete == nil {
			complete = flagCompletions[f.Name]
		}
		if value, ok := f.Value.(*flagValue); ok && value.words != nil {
			complete = oneOf(value.words...)
		}
		if complete == nil {
			complete = cobra.NoFileCompletions
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // two commands share a flag, or one is visited twice
		}
	})
	for _, child := range cmd.Commands() {
		addCompletions(child)
	}
}

// offer returns the candidates that begin with word. A candidate may have a description after a
// tab. The shell adds a space unless a candidate ends in a way that must go on.
func offer(word string, candidates []string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	var fitting []string
	for _, candidate := range candidates {
		if !strings.HasPrefix(candidate, word) {
			continue
		}
		fitting = append(fitting, candidate)
		if text, _, _ := strings.Cut(candidate, "\t"); strings.HasSuffix(text, "/") || strings.HasSuffix(text, "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	return fitting, directive
}

// first completes the first argument alone.
func first(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

// oneOf completes one word of a fixed set.
func oneOf(candidates ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return offer(word, candidates)
	}
}

// from completes one word of a set that is read when it is needed.
func from(candidates func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return offer(word, candidates())
	}
}

// unfinished does as oneOf without a space after the word.
func unfinished(candidates ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		fitting, directive := offer(word, candidates)
		return fitting, directive | cobra.ShellCompDirectiveNoSpace
	}
}

// commas completes the last of several words separated by commas, with those not yet given. Only
// the first has its description: cobra's script for bash finds none that has a comma and a
// description.
func commas(candidates func(*cobra.Command, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		given := word[:strings.LastIndexByte(word, ',')+1]
		var list []string
		for _, candidate := range candidates(cmd, args) {
			name, _, _ := strings.Cut(candidate, "\t")
			switch {
			case given == "":
				list = append(list, candidate)
			case !slices.Contains(strings.Split(given, ","), name):
				list = append(list, given+name)
			}
		}
		return offer(word, list)
	}
}

func anyFile(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func shipped() []string {
	var list []string
	for _, name := range scenarios.Names() {
		if experiment, _, err := scenarios.Load(name); err == nil {
			list = append(list, cobra.CompletionWithDesc(name, experiment.Summary))
		}
	}
	return list
}

// experiments completes the name of a shipped experiment or the path of a file.
func experiments(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix(word, "~") { // only the shell expands it
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return offer(word, append(shipped(), paths(word, func(path string) bool {
		return slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path))
	})...))
}

// runs completes the path of a run folder. Runs are in runs/ unless --out says otherwise.
func runs(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix(word, "~") {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	isRun := func(path string) bool {
		_, err := results.Open(path)
		return err == nil
	}
	found := paths(word, isRun)
	if word == "" {
		found = append(slices.DeleteFunc(found, func(path string) bool { return path == "runs/" }), paths("runs/", isRun)...)
	}
	return offer(word, found)
}

// paths returns the paths that begin with prefix: those that accept takes, and folders, with a
// slash at their end, which may contain others. A prefix must begin with a dot to match hidden
// ones.
func paths(prefix string, accept func(path string) bool) []string {
	dir, base := filepath.Split(prefix)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return nil
	}
	var list []string
	for _, entry := range entries {
		path := dir + entry.Name()
		if strings.HasPrefix(entry.Name(), ".") && !strings.HasPrefix(base, ".") || !strings.HasPrefix(path, prefix) {
			continue
		}
		info, err := os.Stat(path) // through links
		switch {
		case err != nil:
		case accept(path) && (info.IsDir() || info.Mode().IsRegular()):
			list = append(list, path)
		case info.Mode()&fs.ModeDir != 0:
			list = append(list, path+"/")
		}
	}
	return list
}

// scenariosOf returns the scenarios of the experiment that the command line names.
func scenariosOf(_ *cobra.Command, args []string) []string {
	if len(args) == 0 || args[0] == scenarios.Stdin { // reading it would wait for the terminal
		return nil
	}
	experiment, _, err := scenarios.Load(args[0])
	if err != nil {
		return nil
	}
	var list []string
	for _, r := range experiment.Resolve() {
		for _, name := range []string{r.Base, r.Name} {
			if candidate := cobra.CompletionWithDesc(name, r.Summary); !slices.Contains(list, candidate) {
				list = append(list, candidate)
			}
		}
	}
	return list
}

// reportFiles completes FORMAT=FILE.
func reportFiles(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(word, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var list []string
	for _, format := range reports.Formats() {
		list = append(list, format+"=")
	}
	return offer(word, list)
}

// boxes completes a box that Vagrant has, a .box file, or the box that ctload builds.
func boxes(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	list := append([]string{vagrant.BuildBox, vagrant.DefaultBox}, vagrant.InstalledBoxes()...)
	list = append(list, paths(word, func(path string) bool { return filepath.Ext(path) == ".box" })...)
	slices.Sort(list)
	return offer(word, slices.Compact(list))
}

// nodes returns the nodes of the running lab.
func nodes() []string {
	socket, err := control.Socket()
	if err != nil {
		return nil
	}
	about, err := control.Look(socket)
	if err != nil {
		return nil
	}
	return about.Nodes
}
