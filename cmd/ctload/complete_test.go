package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCompletions_NameWhatExists checks that the tables of completions name only existing commands
// and flags.
func TestCompletions_NameWhatExists(t *testing.T) {
	root := rootCommand()
	find := func(path string) *cobra.Command {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 {
			t.Errorf("completions are for the command %q, which ctload does not have", path)
			return root
		}
		return cmd
	}
	for path := range argumentCompletions {
		find(path)
	}
	for key := range flagCompletions {
		under, name := root, key
		if path, flag, qualified := strings.Cut(key, " --"); qualified {
			under, name = find(path), flag
		}
		if !hasFlag(under, name) {
			t.Errorf("completions are for the flag %q, which no command has", key)
		}
	}
}

// hasFlag reports whether cmd or a command below it has the flag.
func hasFlag(cmd *cobra.Command, name string) bool {
	if cmd.Flags().Lookup(name) != nil {
		return true
	}
	for _, child := range cmd.Commands() {
		if hasFlag(child, name) {
			return true
		}
	}
	return false
}
