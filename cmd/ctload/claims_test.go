package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// claim is an entry of docs/results/claims.yaml.
type claim struct {
	Claim, Said, Verdict, Experiment, Why string
	Asserts                               map[string][]string // by scenario
	Figures                               map[string][]string // likewise, measured beside
}

const claimsHead = `# Claims about connection tracking

Statements that guides and issue trackers repeat, each **confirmed**, **refuted** or **bounded** (it
holds under a condition) by an experiment of the library. The thresholds of the experiment assert
what stands here, and ` + "`make library`" + ` runs all of them. The figures are those of the
runs in [runs/](runs), in the form of run.json; ` + "`ctload report`" + ` prints each. In emulated
guests (tcg) counts and verdicts are valid, times and rates are not those of hardware.

`

// claimsPage renders the page from the claims and the runs beside it.
func claimsPage(t *testing.T, list []claim) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(claimsHead)
	b.WriteString("| # | claim | said by | verdict | experiment |\n|---|---|---|---|---|\n")
	for i, c := range list {
		fmt.Fprintf(&b, "| [%d](#%[1]d) | %s | %s | %s | "+
			"[`%s`](../../scenarios/library/%[5]s.yaml) |\n",
			i+1, c.Claim, c.Said, c.Verdict, c.Experiment)
	}
	for i, c := range list {
		run := measuredClaim(t, c)
		e := run.Environment
		fmt.Fprintf(&b, "\n## %d\n\n%s\n\n", i+1,
			wrap(fmt.Sprintf("**%s: %s.** %s", c.Claim, c.Verdict, c.Why)))
		b.WriteString("| scenario | asserted | measured |\n|---|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(c.Asserts)) {
			for _, expression := range c.Asserts[name] {
				fmt.Fprintf(&b, "| %s | `%s` | %s |\n", name, expression,
					actualOf(t, run, name, expression))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.Figures)) {
			for _, path := range c.Figures[name] {
				fmt.Fprintf(&b, "| %s | – (`%s`) | %s |\n", name, path,
					figure(results.FigureAt(path), results.Figure)(
						slices.Collect(run.Scenario(name).ValidTrials())))
			}
		}
		redo := c.Experiment
		if e.Driver != "libvirt" {
			redo += " --driver " + e.Driver
		}
		fmt.Fprintf(&b, "\nKernel %s, %s, %s ([run](runs/%s.json)). Again:\n\n"+
			"    ctload run %s\n", e.Kernel, strings.TrimSpace(e.Driver+" "+e.Accelerator),
			count(trialsOf(run), "trial"), c.Experiment, redo)
	}
	return b.String()
}

// wrap breaks a text into lines of at most 100 columns.
func wrap(text string) string {
	var lines []string
	for _, word := range strings.Fields(text) {
		if at := len(lines) - 1; at >= 0 && len(lines[at])+1+len(word) <= 100 {
			lines[at] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return strings.Join(lines, "\n")
}

// measuredClaim reads the run that shows a claim's figures.
func measuredClaim(t *testing.T, c claim) *results.Run {
	t.Helper()
	run := decode(t, readFile(t, "docs/results/runs/"+c.Experiment+".json"))
	if run.Experiment != c.Experiment || run.Part("") != nil {
		t.Fatalf("runs/%s.json is of %s: %v", c.Experiment, run.Experiment, run.Part(""))
	}
	return run
}

// actualOf returns what the run measured of an assertion, which must be a threshold that held.
func actualOf(t *testing.T, run *results.Run, scenario, expression string) string {
	t.Helper()
	s := run.Scenario(scenario)
	if s == nil {
		t.Fatalf("the run of %s has no scenario %s", run.Experiment, scenario)
	}
	for _, o := range s.Thresholds {
		if o.Expression != expression || !o.Passed {
			continue
		}
		if !strings.Contains(expression, "conntrack.alerts") {
			return o.Actual
		}
		var words []string
		for trial := range s.ValidTrials() {
			for _, a := range trial.Conntrack.Alerts {
				lead := "no drop"
				if a.Lead != nil {
					lead = results.Figure(*a.Lead) + " s before the first drop"
				}
				words = append(words, fmt.Sprintf("trial %d: %s %s", trial.Number,
					results.Percent(a.Share), lead))
			}
		}
		return strings.Join(words, ", ")
	}
	t.Errorf("%s, %s: the run has no threshold %q that held: %+v", run.Experiment, scenario,
		expression, s.Thresholds)
	return ""
}

// trialsOf returns how many valid trials of each scenario a run has, at least.
func trialsOf(run *results.Run) int {
	least := len(run.Trials())
	for _, s := range run.Scenarios {
		least = min(least, s.Valid())
	}
	return least
}

// TestClaims makes the page of the claims from their data and compares it: a figure that the data
// does not hold fails, and so does an assertion that the library does not make.
func TestClaims(t *testing.T) {
	var list []claim
	if err := yaml.UnmarshalWithOptions([]byte(readFile(t, "docs/results/claims.yaml")), &list,
		yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if !slices.Contains([]string{"confirmed", "refuted", "bounded"}, c.Verdict) {
			t.Errorf("%s: the verdict is %q", c.Claim, c.Verdict)
		}
		e, _, err := scenarios.Load(c.Experiment)
		if err != nil {
			t.Errorf("%s: %v", c.Claim, err)
			continue
		}
		for name, expressions := range c.Asserts {
			for _, expression := range expressions {
				if !slices.ContainsFunc(e.Thresholds, func(t scenarios.Threshold) bool {
					return t.Expression == expression && (t.Scenario == name || t.Scenario == "all")
				}) {
					t.Errorf("%s does not assert %s: %s", c.Experiment, name, expression)
				}
			}
		}
	}
	page := claimsPage(t, list)
	if *update {
		path := filepath.Join(moduleRoot, "docs/results/claims.md")
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(readFile(t, "docs/results/claims.md"), page); diff != "" {
		t.Errorf("docs/results/claims.md is not what its data says; go test ./cmd/ctload -run "+
			"TestClaims -update (-page +data):\n%s", diff)
	}
}
