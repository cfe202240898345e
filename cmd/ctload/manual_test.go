package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manual is the folder for a release's manual pages. A separate program could not import this
// package, and the generator would enlarge ctload itself.
var manual = flag.String("manual", "", "keep the manual pages in this folder")

// TestManual_HasAPageForEachCommand writes the manual pages, which follow from the commands.
func TestManual_HasAPageForEachCommand(t *testing.T) {
	folder := *manual
	if folder == "" {
		folder = t.TempDir()
	}
	root := rootCommand()
	root.DisableAutoGenTag = true
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.Long = asMarkdown(cmd.Long)
	})
	header := &doc.GenManHeader{Section: "1", Source: "ctload", Manual: "ctload"}
	if err := doc.GenManTree(root, header, folder); err != nil {
		t.Fatal(err)
	}
	eachCommand(root, func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Errorf("%s: %v", cmd.CommandPath(), err)
			return
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(string(page), "--"+f.Name) {
				t.Errorf("the page of %s does not name --%s", cmd.CommandPath(), f.Name)
			}
		})
	})
}

func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() { // the help command is not
			eachCommand(child, do)
		}
	}
}

// asMarkdown marks the indented lines of a help text as blocks that keep their lines.
func asMarkdown(text string) string {
	return strings.ReplaceAll(text, "\n  ", "\n      ")
}
