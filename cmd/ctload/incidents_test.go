package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/scenarios"
)

// TestIncidentsPage compares docs/incidents.md with the library: its counts, its groups, its links,
// and the scenarios that it names for the cures of the write-ups.
func TestIncidentsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/incidents.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	groups, scenariosOf, total := map[string][]string{}, map[string][]string{}, 0
	for _, name := range scenarios.Names() {
		e, _, err := scenarios.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		group := string(e.Documentation.Group)
		groups[group] = append(groups[group], "[`"+name+"`]")
		for _, r := range e.Resolve() {
			scenariosOf[name] = append(scenariosOf[name], r.Base)
			total++
		}
		link := fmt.Sprintf("[`%s`]: ../scenarios/library/%s.yaml\n", name, name)
		if !strings.Contains(page, link) {
			t.Errorf("there is no link %s", link)
		}
	}
	count := fmt.Sprintf("%d experiments, %d scenarios in them:", len(scenariosOf), total)
	if !strings.Contains(page, count) {
		t.Errorf("the page does not say %q", count)
	}
	for _, group := range scenarios.Group("").Words() {
		title, _, _ := strings.Cut(scenarios.Group(group).Title(), ":")
		row := matches(`(?m)^\| \[`+title+`\]\(#[a-z-]+\) \((\d+)\) \| [^|]+ \| (.*) \|$`, page)
		count, links := fmt.Sprint(len(groups[group])), strings.Join(groups[group], ", ")
		if len(row) != 1 || row[0][1] != count || row[0][2] != links {
			t.Errorf("the row of %s: %q, want %s: %s", title, row, count, links)
		}
	}
	for _, match := range matches("(?m)^\\[`[^`]+`\\]: (.*)$", page) {
		if _, err := os.Stat(filepath.Join("../../docs", match[1])); err != nil {
			t.Error(err)
		}
	}
	named := matches("((?:\\[`[a-z-]+`\\](?:, )?)+): ([a-z0-9-]+(?:, [a-z0-9-]+)*)", page)
	if len(named) < 20 {
		t.Errorf("the page names the scenarios of %d cures", len(named))
	}
	for _, match := range named {
		for _, experiment := range matches("[a-z-]+", match[1]) {
			for scenario := range strings.SplitSeq(match[2], ", ") {
				if !slices.Contains(scenariosOf[experiment[0]], scenario) {
					t.Errorf("%s has no scenario %s", experiment[0], scenario)
				}
			}
		}
	}
}
