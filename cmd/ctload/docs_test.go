package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// documented is a command line of ctload in a text, up to what a shell would take for its end.
var documented = regexp.MustCompile(`(?m)^[ -]*(?:run: |script: |\$ )?(?:>\s+)?(?:bin/)?ctload ((?:run|report|compare|plan|scenarios|doctor|generate|respond|version|completion)\b[^\n#|;&]*)`)

// TestDocumentedCommands takes each command line of the documentation and asks the program for the help
// of it: flags that it does not know are errors.
func TestDocumentedCommands(t *testing.T) {
	n := 0
	for _, file := range []string{"README.md", "docs/ci.md", "docs/install.md", "docs/generators.md", ".github/workflows/conntrack.yml"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		// A command goes on in the next line; of a choice in a workflow, what it has in a pull request.
		joined := regexp.MustCompile(`(?:\\\n|\n)\s+(--|\$\{\{)`).ReplaceAllString(string(text), " $1")
		joined = regexp.MustCompile(`\$\{\{[^}]*&& '([^']*)'[^}]*\}\}`).ReplaceAllString(joined, "$1")
		for _, match := range documented.FindAllStringSubmatch(joined, -1) {
			n++
			args := words(match[1])
			o := ctload(t, 20*time.Second, append(args, "--help")...)
			if o.status != statusOK {
				t.Errorf("%s: ctload %s: exit status %d: %s", file, match[1], o.status, o.stderr)
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d command lines were found", n)
	}
}

// words splits a command line as a shell does, as far as quotes go.
func words(line string) []string {
	var list []string
	for _, w := range regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`).FindAllString(line, -1) {
		list = append(list, strings.NewReplacer(`'`, "", `"`, "").Replace(w))
	}
	return list
}

// TestContinuousIntegration reads the workflow of this project's own CI: it runs what a submission must pass, on pull
// requests and on what is merged.
func TestContinuousIntegration(t *testing.T) {
	text, err := os.ReadFile("../../.github/workflows/ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		On struct {
			Push struct{ Branches []string }
		}
		Jobs map[string]struct{ Steps []struct{ Run string } }
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n  pull_request:\n") || !slices.Equal(workflow.On.Push.Branches, []string{"main"}) {
		t.Errorf("it runs on %+v", workflow.On)
	}
	runs := false
	for _, job := range workflow.Jobs {
		for _, step := range job.Steps {
			runs = runs || strings.TrimSpace(step.Run) == "./.ci/run"
		}
	}
	if info, err := os.Stat("../../.ci/run"); !runs || err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("it does not run .ci/run: %v", err)
	}
}

// TestDocumentedWorkflows reads the YAML of docs/ci.md: it is well formed, and the workflow in it is the
// one that this project runs.
func TestDocumentedWorkflows(t *testing.T) {
	page, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of YAML, want the workflow and the job", len(blocks))
	}
	workflow, err := os.ReadFile("../../.github/workflows/conntrack.yml")
	if err != nil {
		t.Fatal(err)
	}
	if blocks[0][1] != string(workflow) {
		t.Error("docs/ci.md has another workflow than .github/workflows/conntrack.yml")
	}
	for _, block := range blocks {
		var document map[string]any
		if err := yaml.Unmarshal([]byte(block[1]), &document); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
	}
}
