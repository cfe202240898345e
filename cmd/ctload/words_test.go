package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// foreign matches text of the libraries that parse command lines and values: it names no example
// and no remedy.
var foreign = regexp.MustCompile(`strconv\.|\btime: |invalid syntax|invalid argument|` +
	`value out of range|unknown shorthand|unknown flag|unknown command|flag needs an argument|` +
	`bad flag syntax|arg\(s\)|unable to parse|ParseAddr|parse error|Did you mean this|(?i)usage:`)

// garbage holds values that every flag with a format of its own refuses.
var garbage = []string{"x", "", "-1", "1e99", "NaN", "10zz", " ", `"`}

// commands returns all commands, each with its path below ctload.
func commands(cmd *cobra.Command, path ...string) map[*cobra.Command][]string {
	all := map[*cobra.Command][]string{cmd: path}
	for _, c := range cmd.Commands() {
		for sub, path := range commands(c, append(slices.Clone(path), c.Name())...) {
			all[sub] = path
		}
	}
	return all
}

// refuses runs a command line in this process. It must end with status 2, and in ctload's own
// words.
func refuses(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, &stdout, &stderr)
	said := regexp.MustCompile(`(?m)^warning: .*\n`).ReplaceAllString(stderr.String(), "")
	if status != statusUsage || !strings.HasPrefix(said, "ctload: ") || stdout.Len() > 0 {
		t.Errorf("ctload %q: exit status %d: %s%s", args, status, stdout.String(), said)
	}
	if words := foreign.FindString(strings.Split(said, "\n")[0]); words != "" {
		t.Errorf("ctload %q: %q in: %s", args, words, said)
	}
	return said
}

// TestGarbage gives each flag of each command invalid values: all of them where it is the first of
// its name and type. Where a flag takes any text, such as a path, the number of arguments is wrong,
// so that nothing runs.
func TestGarbage(t *testing.T) {
	n := 0
	seen := map[string]bool{}
	for cmd, path := range commands(rootCommand()) {
		if cmd.DisableFlagParsing {
			continue // a text that looks like a flag is a word to search for
		}
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			values := garbage
			kind := f.Name + " " + f.Value.Type()
			if seen[kind] {
				values = values[:2]
			}
			seen[kind] = true
			for _, value := range values {
				n++
				args := append(slices.Clone(path), "--"+f.Name+"="+value)
				if !anyText(f) {
					said := refuses(t, args...)
					if !strings.HasPrefix(said, "ctload: --"+f.Name+": ") {
						t.Errorf("ctload %q does not name the flag: %s", args, said)
					}
					continue
				}
				args = append(args, surplus(cmd)...)
				said := refuses(t, args...)
				if strings.TrimSpace(value) == "" && !strings.Contains(said, "--"+f.Name) &&
					f.Name != "address" {
					t.Errorf("ctload %q takes an empty text: %s", args, said)
				}
			}
			if f.Value.Type() != "bool" {
				refuses(t, append(slices.Clone(path), "--"+f.Name)...)
			}
			if f.Shorthand != "" && f.Value.Type() != "bool" {
				refuses(t, append(slices.Clone(path), "-"+f.Shorthand)...)
			}
		})
		for _, wrong := range []string{"--no-such-flag", "-Z", "--=x"} {
			refuses(t, append(slices.Clone(path), wrong)...)
		}
		if cmd.HasSubCommands() {
			refuses(t, append(slices.Clone(path), "x")...)
			refuses(t, append(slices.Clone(path), "x", "--no-such-flag")...)
		} else if cmd.Name() != "help" {
			refuses(t, append(slices.Clone(path), surplus(cmd)...)...)
		}
	}
	if n < 500 {
		t.Errorf("only %d values were tried", n)
	}
}

// anyText reports whether a flag takes any text, or any that is not empty.
func anyText(f *pflag.Flag) bool {
	v, own := f.Value.(*flagValue)
	return f.Value.Type() != "bool" && (!own || v.free)
}

// surplus returns a number of arguments that a command does not take.
func surplus(cmd *cobra.Command) []string {
	for _, args := range [][]string{nil, {"x", "y", "z"}} {
		if cmd.Args != nil && cmd.Args(cmd, args) != nil {
			return args
		}
	}
	panic(cmd.CommandPath() + " takes any arguments")
}

// TestSemanticGarbage gives texts that are parsed later than the flags.
func TestSemanticGarbage(t *testing.T) {
	for _, value := range garbage {
		for _, args := range [][]string{
			{"generate", "tcp", "-n", "1", "-c", "1", value},
			{"generate", "http", "-n", "1", "http://" + value + "/"},
			{"generate", "tcp", "-n", "1", "-c", "1", "127.0.0.1:" + value},
			{"generate", "tcp", "-n", "1", "-c", "1", "--sources", value, "127.0.0.1:9"},
			{"generate", "syn", "-n", "1", "--sources", "10.9.0.0/16", "--gateway", value,
				"127.0.0.1:9"},
			{"generate", "tcp", "-n", "1", "-c", "1", "--namespace", "/no/such/" + value,
				"127.0.0.1:9"},
			{"plan", "--rate", "5", "--residence", value},
			{"plan", "--rate", "5", "--residence", "5s", "--kernel", value},
			{"plan", value + "/"},
			{"run", "table-full", "--dry-run", "--scenario", value},
			{"run", "table-full", "--dry-run", "--kernel", value},
			{"run", "table-full", "--dry-run", "--threshold", value},
			{"run", "table-full", "--dry-run", "--report", value},
			{"run", "table-full", "--dry-run", "--baseline", value},
			{"report", "testdata/runs/before", "--threshold", value},
			{"report", "testdata/runs/before", "--report", value},
			{"report", value},
			{"scenarios", "show", value},
			{"scenarios", "validate", value},
			{"respond", value},
			{"respond", "http", "--address", "x" + value},
			{"help", value + "!"},
		} {
			refuses(t, args...)
		}
	}
}
