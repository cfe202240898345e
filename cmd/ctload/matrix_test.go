package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// The matrix of docs/results/loads.md: its loads are experiments in docs/results/loads, its kernels
// folders of docs/results/runs.
var (
	matrixLoads = []string{
		"short-tcp", "held-churn", "unanswered-udp", "syn-flood", "dns-pairs",
	}
	matrixKernels = []string{
		"debian/bookworm", "debian/bookworm-backports", "debian/trixie", "debian/sid",
	}
	matrixCures = []string{
		"default", "max-x4", "max-and-hash", "time-wait", "ct-timeout", "notrack", "synproxy",
		"flowtable",
	}
)

const loadsHead = `# Loads, cures and kernels

Five loads on a router, each with every cure that makes sense for it, on each kernel. The
experiments are in [loads/](loads), the runs in [runs/](runs), and a test makes this page of both:
no figure is typed by hand. ` + "`make results`" +
	` measures them, in shards where there are several
hosts, and ` + "`make results-merge`" + ` joins the shards and writes this page.

A figure of several trials is the median, with the lowest and the highest one in parentheses.
In emulated guests (tcg) counts and verdicts are valid; times and rates are not those of hardware.

| column | meaning |
|---|---|
| verdict | how the worst trial ended: what broke first |
| peak | entries in the table at most |
| refused | packets that the kernel dropped or failed to insert: drop + insert_failed |
| evicted | entries that made room for others (early_drop) |
| failed | attempts of users that failed; a load without answers has none |
| bystander lost | share of the new connections of a bystander that failed |
| heals after | seconds from the end of the load until the bystander's connections succeed |
| memory | kernel memory of the entries and the hash at the end of the watch |
| alert leads by | seconds from an alert at 75 % of max to the first drop |
| highest rate | new flows per second without loss for 10 s, with its 95 % interval |
`

// cell is a column of the page: the words for the valid trials of a scenario.
type cell struct {
	title string
	of    func(trials []*results.Trial) string
}

// figure returns the median of a figure with its range.
func figure(of func(*results.Trial) (float64, bool), words func(float64) string,
) func([]*results.Trial) string {
	return func(trials []*results.Trial) string {
		var values []float64
		for _, t := range trials {
			if v, ok := of(t); ok {
				values = append(values, v)
			}
		}
		if len(values) == 0 {
			return "–"
		}
		low, high := words(slices.Min(values)), words(slices.Max(values))
		if low == high {
			return low
		}
		return fmt.Sprintf("%s (%s to %s)", words(compare.Median(values)), low, high)
	}
}

func countWords(v float64) string { return results.Count(int64(v)) }

func secondsWords(never string) func(float64) string {
	return func(v float64) string {
		if math.IsInf(v, 1) {
			return never
		}
		return results.Figure(v) + " s"
	}
}

// matrixCells are the columns that a run gives.
func matrixCells() []cell {
	at := results.FigureAt
	sum := func(paths ...string) func(*results.Trial) (float64, bool) {
		return func(t *results.Trial) (total float64, ok bool) {
			for _, path := range paths {
				v, has := at(path)(t)
				total, ok = total+v, ok || has
			}
			return total, ok
		}
	}
	return []cell{
		{"verdict", func(trials []*results.Trial) string {
			worst := results.Scenario{}
			for _, t := range trials {
				worst.Trials = append(worst.Trials, *t)
			}
			return string(worst.Worst())
		}},
		{"peak", figure(at("conntrack.peak"), countWords)},
		{"refused", figure(sum("conntrack.drop", "conntrack.insert_failed"), countWords)},
		{"evicted", figure(at("conntrack.early_drop"), countWords)},
		{"failed", figure(at("load.failed"), countWords)},
		{"bystander lost", figure(at("probe.loss"), results.Percent)},
		{"heals after", func(trials []*results.Trial) string {
			never := "not within the watch"
			if r := trials[0].Recovery; r != nil {
				never = "not in " + results.Figure(r.AtMost) + " s"
			}
			return figure(at("conntrack.seconds_to_recover"), secondsWords(never))(trials)
		}},
		{"memory", figure(sum("contents.slab_bytes", "contents.hash_bytes"),
			func(v float64) string { return results.Bytes(int64(v)) })},
		{"alert leads by", figure(func(t *results.Trial) (float64, bool) {
			for _, a := range t.Conntrack.Alerts {
				if a.Share == 0.75 && a.Lead != nil {
					return *a.Lead, true
				}
			}
			return 0, false
		}, secondsWords(""))},
	}
}

// limitOf returns the highest rate of a scenario with its interval.
func limitOf(report *search.Report, scenario string) string {
	if report == nil {
		return "not measured yet"
	}
	found := report.Search.Scenarios
	at := slices.IndexFunc(found, func(s search.Scenario) bool { return s.Name == scenario })
	if at < 0 || found[at].Stuck {
		return "not measured yet"
	}
	words := func(v *float64) string {
		if v == nil {
			return "–"
		}
		return results.Figure(*v)
	}
	s := found[at]
	return fmt.Sprintf("%s/s (%s to %s), %s", words(s.Value), words(s.Low), words(s.High), s.Limit)
}

// measuredJSON decodes a file of docs/results/runs; false where it is not there.
func measuredJSON(t *testing.T, name string, into any) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(moduleRoot, "docs/results/runs", name))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err = cmp.Or(err, json.Unmarshal(data, into)); err != nil {
		t.Fatal(err)
	}
	return true
}

// kernelTable writes what was measured of a load on a kernel.
func kernelTable(t *testing.T, b *bytes.Buffer, e *scenarios.Experiment, load, kernel string) {
	t.Helper()
	file := filepath.Base(kernel) + "/" + load
	var run results.Run
	fmt.Fprintf(b, "\n### %s on %s\n\n", load, kernel)
	redo := fmt.Sprintf("    ctload run docs/results/loads/%s.yaml --kernel %s", load, kernel)
	if !measuredJSON(t, file+".json", &run) {
		fmt.Fprintf(b, "Not measured yet:\n\n%s\n", redo)
		return
	}
	if run.Experiment != e.Name || run.Part("") != nil {
		t.Fatalf("runs/%s.json is of %s: %v", file, run.Experiment, run.Part(""))
	}
	var limits *search.Report
	if report := new(search.Report); measuredJSON(t, file+"-highest.json", report) {
		limits = report
	}
	cells := matrixCells()
	b.WriteString("| cure |")
	for _, c := range cells {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString(" highest rate |\n|---|" + strings.Repeat("---|", len(cells)+1) + "\n")
	for _, cure := range matrixCures {
		named := func(r scenarios.Resolved) bool { return r.Name == cure }
		if !slices.ContainsFunc(e.Resolve(), named) {
			fmt.Fprintf(b, "| %s | does not apply |%s\n", cure, strings.Repeat(" |", len(cells)))
			continue
		}
		s := run.Scenario(cure)
		if s == nil || s.Valid() == 0 {
			fmt.Fprintf(b, "| %s | not measured yet |%s\n", cure, strings.Repeat(" |", len(cells)))
			continue
		}
		if got := s.Configuration.Kernel; got != kernel {
			t.Errorf("runs/%s.json: %s ran on %s", file, cure, got)
		}
		fmt.Fprintf(b, "| %s |", cure)
		for _, c := range cells {
			fmt.Fprintf(b, " %s |", c.of(slices.Collect(s.ValidTrials())))
		}
		fmt.Fprintf(b, " %s |\n", limitOf(limits, cure))
	}
	env, trials := run.Environment, run.Planned/len(run.Scenarios)
	fmt.Fprintf(b, "\nKernel %s, %s, %s of each cure\n([run](runs/%s.json)). Again:\n\n"+
		"%s --trials %d\n", env.Kernel, strings.TrimSpace(env.Driver+" "+env.Accelerator),
		count(trials, "trial"), file, redo, trials)
	if limits != nil {
		fmt.Fprintf(b, "    ctload search docs/results/loads/%s.yaml --kernel %s --highest %s\n",
			load, kernel, strings.TrimPrefix(limits.Search.Goal, "highest "))
	}
}

// TestLoadsPage makes docs/results/loads.md from the runs and compares it: a figure that the data
// does not hold fails.
func TestLoadsPage(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(loadsHead)
	for _, load := range matrixLoads {
		e, _, err := scenarios.Load(filepath.Join(moduleRoot, "docs/results/loads", load+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range e.Resolve() {
			if !slices.Contains(matrixCures, s.Name) {
				t.Errorf("%s: %s is no cure of the matrix", load, s.Name)
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n([experiment](loads/%[1]s.yaml)).\n", load,
			strings.ToUpper(e.Summary[:1])+e.Summary[1:])
		for _, kernel := range matrixKernels {
			kernelTable(t, &b, e, load, kernel)
		}
	}
	if *update {
		path := filepath.Join(moduleRoot, "docs/results/loads.md")
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := gocmp.Diff(readFile(t, "docs/results/loads.md"), b.String()); diff != "" {
		t.Errorf("docs/results/loads.md is not what its data says; go test ./cmd/ctload -run "+
			"TestLoadsPage -update (-page +data):\n%s", diff)
	}
}
