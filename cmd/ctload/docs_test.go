package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// documented matches a command line of ctload in a text, up to where a shell would end it.
const documented = `(?m)^[ -]*(?:run: |script: |\$ )?(?:>\s+)?(?:bin/)?ctload ` +
	`((?:run|import|` +
	`report|compare|history|merge|plan|scenarios|doctor|generate|respond|vm|gc|version|` +
	`completion)\b` +
	`[^\n#|;&]*)`

// matches returns the matches of a pattern in a text, with their groups.
func matches(pattern, text string) [][]string {
	return regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
}

// TestDocumentedCommands takes each command line of the documentation and asks the program for its
// help: unknown flags are errors.
func TestDocumentedCommands(t *testing.T) {
	n := 0
	continued := regexp.MustCompile(`(?:\\\n|\n)\s+(--|\$\{\{)`)
	choice := regexp.MustCompile(`\$\{\{[^}]*&& '([^']*)'[^}]*\}\}`)
	for _, file := range []string{
		"README.md", "docs/reading.md", "docs/sizing.md", "docs/ci.md", "docs/install.md",
		"docs/labs.md", "docs/hypervisors.md", "docs/generators.md", "docs/live.md",
		"docs/alerts.md", "docs/fleet.md",
	} {
		// A command may continue in the next line; of a choice in a workflow, the value for a pull
		// request counts.
		text := continued.ReplaceAllString(readFile(t, file), " $1")
		for _, match := range matches(documented, choice.ReplaceAllString(text, "$1")) {
			n++
			args := words(match[1])
			if rest := slices.Index(args, "--"); rest >= 0 {
				args = args[:rest] // a command for a node, not of ctload
			}
			o := ctload(t, 2*time.Minute, append(args, "--help")...)
			if o.status != statusOK {
				t.Errorf("%s: ctload %s: exit status %d: %s", file, match[1], o.status, o.stderr)
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d command lines were found", n)
	}
}

// words splits a command line as a shell does, but knows only quotes.
func words(line string) []string {
	var list []string
	for _, w := range matches(`(?:'[^']*'|"[^"]*"|[^\s'"])+`, line) {
		list = append(list, strings.NewReplacer(`'`, "", `"`, "").Replace(w[0]))
	}
	return list
}

// TestContinuousIntegration reads the workflow of this project's own CI: it runs what a submission
// must pass, on pull requests and on merges.
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
	if !strings.Contains(string(text), "\n  pull_request:\n") ||
		!slices.Equal(workflow.On.Push.Branches, []string{"main"}) {
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

// TestDocumentedWorkflows reads the YAML of docs/ci.md: it is well formed, and the workflows in it
// are those that this project runs.
func TestDocumentedWorkflows(t *testing.T) {
	page := readFile(t, "docs/ci.md")
	var blocks []string
	for _, match := range matches("(?ms)^```yaml\n(.*?)^```", page) {
		blocks = append(blocks, match[1])
	}
	for _, block := range blocks {
		var document map[string]any
		if err := yaml.Unmarshal([]byte(block), &document); err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
	for _, name := range []string{"conntrack.yml", "nightly.yml"} {
		if !slices.Contains(blocks, readFile(t, ".github/workflows/"+name)) {
			t.Errorf("docs/ci.md does not contain .github/workflows/%s as it is", name)
		}
	}
}

// TestDocumentedPlan runs the example of docs/sizing.md: its output begins as the page shows it.
func TestDocumentedPlan(t *testing.T) {
	found := matches("(?s)    ctload (plan [^\n]*)\n\n```\n(.*?)```", readFile(t, "docs/sizing.md"))
	if found == nil {
		t.Fatal("docs/sizing.md has no example of ctload plan")
	}
	example := found[0]
	o := ctload(t, 2*time.Minute, words(example[1])...)
	shown := o.stdout[:min(len(o.stdout), len(example[2]))]
	if o.status != statusOK || shown != example[2] {
		t.Errorf("exit status %d, (-documented +printed):\n%s",
			o.status, cmp.Diff(example[2], shown))
	}
}

// TestDocumentation_Links resolves the relative links of every page: the file exists, and so does
// the heading that a link names.
func TestDocumentation_Links(t *testing.T) {
	const link = `(?m)(?:\]\(|src(?:set)?=")([^)\s"]+)[)"]|^\[.+\]: (\S+)$`
	n := 0
	for _, page := range pages(t) {
		for _, match := range matches(link, readFile(t, page)) {
			to := match[1] + match[2]
			if strings.Contains(to, "://") {
				continue
			}
			n++
			path, heading, _ := strings.Cut(to, "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(filepath.Join(moduleRoot, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, to, err)
			} else if heading != "" && !slices.Contains(headings(readFile(t, target)), heading) {
				t.Errorf("%s links to %s: there is no such heading", page, to)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d links were found", n)
	}
}

// TestColumns_OfFiles holds the lines of every text file to 100 columns, where a tab counts 4.
func TestColumns_OfFiles(t *testing.T) {
	// FILE:LINE of the kinds that may be longer.
	exempt := regexp.MustCompile(strings.Join([]string{
		`^\S+\.go:`,         // Go: make lint has the same limit
		`^(\S+/)?testdata/`, // test data
		`^((\S+/)?go\.sum|(results/run|capture/capture)\.schema\.json):`, // generated files
		`^docs/grafana\.json:`,          // as Grafana saves it
		`^docs/results/runs/\S+\.json:`, // measured runs
		`^\S+\.min\.\w+:`,               // minified files
		`^\S+\.md: *\|`,                 // rows of tables
		// Rules: iptables-restore reads one from a line.
		`^(scenarios/library|docs/results/loads)/\S+: *-A `,
	}, "|"))
	lines := 0
	for _, file := range treeFiles(t) {
		text := readFile(t, file.Path())
		if !utf8.ValidString(text) {
			continue // a picture
		}
		for i, line := range strings.Split(text, "\n") {
			lines++
			n := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
			if n > 100 && !exempt.MatchString(file.Path()+":"+line) {
				t.Errorf("%s:%d has %d columns, more than 100: %.60s...", file.Path(), i+1, n, line)
			}
		}
	}
	if lines < 20000 {
		t.Errorf("only %d lines were found", lines)
	}
}

// TestDocumentation_Files finds each file and package that a page names in backquotes.
func TestDocumentation_Files(t *testing.T) {
	const named = "`((?:agent|bench|cmd|docs|generators|internal|labs|orchestrator|reports|" +
		"results|scenarios|vm)/[A-Za-z0-9_./-]+)`"
	n := 0
	for _, page := range pages(t) {
		for _, match := range matches(named, readFile(t, page)) {
			if strings.Contains(match[1], "NAME") {
				continue // a file that the reader makes
			}
			n++
			if _, err := os.Stat(filepath.Join(moduleRoot, match[1])); err != nil {
				t.Errorf("%s names %s: %v", page, match[1], err)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d names were found", n)
	}
}

// TestDocumentation_Index finds every page of docs/ in its index.
func TestDocumentation_Index(t *testing.T) {
	index := readFile(t, "docs/README.md")
	for _, page := range pages(t) {
		name, inside := strings.CutPrefix(page, "docs/")
		if inside && name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// pages returns the names of the Markdown files for readers.
func pages(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := fs.Glob(os.DirFS(moduleRoot), pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	if len(names) < 10 {
		t.Fatalf("only these pages were found: %q", names)
	}
	return names
}

// headings returns the anchors that GitHub gives the headings of a page.
func headings(page string) []string {
	var anchors []string
	mark := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	for _, match := range matches(`(?m)^#+ +(.+)$`, page) {
		words := mark.ReplaceAllString(strings.ToLower(match[1]), "")
		anchors = append(anchors, strings.ReplaceAll(strings.TrimSpace(words), " ", "-"))
	}
	return anchors
}
