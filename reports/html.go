package reports

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
)

// The page's own parts, and uPlot 1.6.32 (MIT, page/uplot.LICENSE), which draws its charts.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/chart.html
	chartHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
	//go:embed page/bands.js
	bandsJS string
	//go:embed page/live.js
	liveJS string
	//go:embed page/export.js
	exportJS string
	//go:embed page/uplot.min.js
	uplotJS string
	//go:embed page/uplot.min.css
	uplotCSS string
)

var page = template.Must(template.New("page").Parse(chartHTML + pageHTML))

// pageData fills the page of a run or of a search.
type pageData struct {
	Title, Summary, Started, Partial string
	Live                             string // number of the page of a run that goes on
	Outcome, OutcomeClass            string
	Experiment                       string // as run
	Styles                           template.CSS
	Library, Script                  template.JS
	Answer                           answer
	Ranks                            [][]string
	Stories                          []pageStory
	TableTitle, TableNote            string
	Table, All, Differences          pageTable
	Drawings                         []chart // without a script
	More                             string  // what only All has; empty: nothing
	Latencies                        []latencyRow
	HasSeries                        bool
	Plot                             []plotScenario
	Facts                            [][2]string
	Notes, Commands                  []string
}

type pageStory struct {
	Name, Verdict, Badge, Also, Brief string
	Lines                             []string
}

// pageTable is a table of the page; a head is two lines, as in a terminal.
type pageTable struct {
	Title string
	Head  [][2]string
	Rows  []pageRow
}

type pageRow struct {
	Name, Verdict string
	Cells         []pageCell
}

// pageCell is a cell with the name of its column, which a narrow page shows beside it.
type pageCell struct{ Label, Text string }

// latencyRow are a scenario, a kind of latency, the count, P50, P90, P99, P999 and the longest.
type latencyRow []string

// renderHTML writes the run as one page that needs no network and no other file. Without o.Series
// or JavaScript it lacks the charts, and keeps all words and tables.
func renderHTML(b *bytes.Buffer, run *results.Run, o Options) error {
	list := rows(run)
	comparison, err := differencesOf(run, list)
	if err != nil {
		return err
	}
	d := newPage(cmp.Or(run.Experiment, "ctload"), run.Summary, o)
	d.Notes = slices.Concat(run.Warnings, footnotes(run, list), comparison.notes)
	d.Answer, d.Commands = answerOf(run), commands(run)
	d.Differences = tableOf(comparison.title, comparison.rows, comparison.lines)
	d.Ranks = ranks(d.Answer.Conclusion)
	d.TableTitle = "Comparison"
	main, all := withParts(list, true), withParts(list, false)
	cells, dropped := choose(layout(main), main, documentWidth)
	cells, shown := prune(cells, main)
	d.Table = tableOf("", shown, cells)
	if dropped > 0 || len(all) > len(main) {
		cells, _ = choose(layout(all), all, math.MaxInt)
		cells, shown = prune(cells, all)
		d.All, d.More = tableOf("", shown, cells), moreWords(dropped, len(all)-len(main))
	}
	if o.Live == "" {
		d.Outcome, d.OutcomeClass = outcomeOf(run)
		d.Partial = partial(run)
	}
	if err := d.measured(run, list, overlaid(run, d.Answer.Scenario), o); err != nil {
		return err
	}
	return page.Execute(b, d)
}

// newPage returns a page with what all have.
func newPage(title, summary string, o Options) pageData {
	d := pageData{
		Title: title, Summary: summary, Live: o.Live, Plot: []plotScenario{},
		Styles:  template.CSS(uplotCSS + pageCSS),
		Library: template.JS(uplotJS), Script: template.JS(bandsJS + exportJS + pageJS),
	}
	if d.Live != "" {
		d.Script += template.JS(liveJS)
		d.HasSeries = true
		d.Outcome, d.OutcomeClass = "under way", outcomeOpen
	}
	return d
}

// measured adds how the trials of a run were measured and what each saw, with the curves of the
// shown scenarios laid over each other.
func (d *pageData) measured(run *results.Run, list []row, shown []string, o Options) error {
	source := cmp.Or(o.Series, SeriesSource(noSeries{}))
	text, err := source.Experiment()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.Experiment = strings.TrimSpace(printable.Text(string(text)))
	d.Facts = facts(run)
	if !run.Started.IsZero() {
		d.Started = run.Started.Format("2 January 2006, 15:04 MST")
	}
	for i, t := range tell(list) {
		d.Stories = append(d.Stories, storyOf(list[i], t))
	}
	return d.fillPlot(run, list, shown, source)
}

// noSeries stands for a run without a folder.
type noSeries struct{}

func (noSeries) Experiment() ([]byte, error) { return nil, nil }

func (noSeries) Series(*results.Trial) ([]results.Sample, []results.ProbeSample, error) {
	return nil, nil, nil
}

func (noSeries) Distributions(*results.Trial) (map[string]results.Distribution, error) {
	return nil, nil
}

// moreWords words what a folded table has beyond the one above it.
func moreWords(columns, rows int) string {
	var parts []string
	if columns > 0 {
		parts = append(parts, howMany(columns, "column"))
	}
	if rows > 0 {
		parts = append(parts, howMany(rows, "row")+" of entries and probes")
	}
	return strings.Join(parts, ", ") + " more"
}

func storyOf(r row, t told) pageStory {
	s := pageStory{
		Name: t.name, Lines: t.lines, Verdict: verdictClass(r), Brief: r.brief(documentWidth),
	}
	s.Badge, _, _ = strings.Cut(verdictCell(r), "\n")
	if typical, ok := r.typical(); ok {
		s.Also = string(typical.Also)
	}
	return s
}

// verdictClass returns the name by which the page colours a row.
func verdictClass(r row) string {
	switch {
	case r.part != nil:
		return "part"
	case r.trials == 0:
		return "not-run"
	}
	v, _ := r.verdict()
	return string(v)
}

// tableOf fills a table with lines; the first line has the scenarios' names.
func tableOf(title string, list []row, lines []line) pageTable {
	t := pageTable{Title: title}
	if len(lines) == 0 || len(list) == 0 {
		return t
	}
	for _, l := range lines[1:] {
		t.Head = append(t.Head, l.head)
	}
	for i, r := range list {
		row := pageRow{Name: nameCell(r), Verdict: verdictClass(r)}
		for _, l := range lines[1:] {
			row.Cells = append(row.Cells, pageCell{l.name, l.cells[i]})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (d *pageData) fillPlot(
	run *results.Run, list []row, shown []string, source SeriesSource,
) error {
	trials := 0
	for _, s := range run.Scenarios {
		trials += len(s.Trials)
	}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		p := plotScenario{
			Name: s.Name, Trials: []plotTrial{}, Shown: slices.Contains(shown, s.Name),
		}
		typical, ok := list[i].typical()
		for j := range s.Trials {
			t := &s.Trials[j]
			if ok && t.Number == typical.Number {
				p.Typical = j
			}
			samples, probes, err := source.Series(t)
			if err != nil {
				return fmt.Errorf("reading trial %d of %s: %w", t.Number, s.Name, err)
			}
			d.HasSeries = d.HasSeries || len(samples) > 0
			plot := plotOf(t, samples, probes, pointsPerTrial(trials))
			for _, phase := range run.Phases {
				plot.Marks = append(plot.Marks, mark{phase.Start, phase.Name})
				plot.Phases = append(plot.Phases, band{
					Seconds: phase.Start, To: new(phase.Start + phase.Seconds), Text: phase.Name,
				})
			}
			p.Trials = append(p.Trials, plot)
		}
		if ok {
			recorded, err := source.Distributions(&typical)
			if err != nil {
				return err
			}
			p.Entries = d.latenciesOf(s.Name, &typical, recorded)
		}
		d.Plot = append(d.Plot, p)
	}
	return nil
}

// mostOverlaid is the number of scenarios whose curves can still be told apart.
const mostOverlaid = 5

// overlaid returns the scenarios whose curves are laid over each other at first: the first one,
// that to apply, and as many others with valid trials as can be told apart.
func overlaid(run *results.Run, chosen string) []string {
	var names []string
	if len(run.Scenarios) > 0 {
		names = addNew(names, run.Scenarios[0].Name)
	}
	if chosen != "" {
		names = addNew(names, chosen)
	}
	for i := range run.Scenarios {
		if s := &run.Scenarios[i]; s.Valid() > 0 && len(names) < mostOverlaid {
			names = addNew(names, s.Name)
		}
	}
	return names
}

// latenciesOf adds the latencies of a trial to the page's table, and returns those of its entries
// for the charts.
func (d *pageData) latenciesOf(
	scenario string, t *results.Trial, recorded map[string]results.Distribution,
) (list []plotEntry) {
	add := func(name string, a results.Attempts, r results.Distribution) {
		list = append(list, plotEntry{
			Name: name, Connect: plotLatencyOf(a.Connect, r.Connect),
			Total: plotLatencyOf(a.Latency, r.Total),
		})
		d.addLatency(scenario, strings.TrimSpace(name+" connect"), a.Connect)
		d.addLatency(scenario, strings.TrimSpace(name+" total"), a.Latency)
	}
	switch names := results.EntryNames(t.Entries); {
	case len(names) > 1:
		for _, name := range names {
			add(name, t.Entries[name].Attempts, recorded[name])
		}
	case len(names) == 1:
		add("", t.Entries[names[0]].Attempts, recorded[names[0]])
	case t.Load != nil: // of an older run
		add("", t.Load.Attempts, recorded[""])
	}
	if len(t.Probes) > 1 {
		for _, name := range slices.Sorted(maps.Keys(t.Probes)) {
			d.addLatency(scenario, name, t.Probes[name].Latency)
		}
	} else if t.Probe != nil {
		d.addLatency(scenario, "bystander", t.Probe.Latency)
	}
	return list
}

func (d *pageData) addLatency(name, kind string, l results.Latency) {
	row := latencyRow{name, kind, results.Count(l.Count), none, none, none, none, none}
	for i, v := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
		if l.Count > 0 {
			row[3+i] = results.Figure(v)
		}
	}
	d.Latencies = append(d.Latencies, row)
}

// facts returns the environment, a name and a value each.
func facts(run *results.Run) [][2]string {
	e := run.Environment
	list := [][2]string{
		{"run", run.ID}, {"ctload", run.Ctload}, {"seed", strconv.FormatUint(run.Seed, 10)},
		{"driver", e.Driver}, {"box", e.Boxed()}, {"accelerator", e.Accelerator},
		{"kernel of the DUT", strings.Join(releases(run), ", ")}, {"QEMU", e.QEMU},
		{"libvirt", e.Libvirt}, {"host kernel", e.HostKernel}, {"host CPU", e.HostCPU},
	}
	add := func(name, value string) { list = append(list, [2]string{name, value}) }
	if e.HostCPUs > 0 {
		add("host CPUs", strconv.Itoa(e.HostCPUs))
		add("host memory", results.Bytes(e.HostMemoryBytes))
	}
	if len(e.HostLoad) > 0 {
		add("host load at the start", loadWords(e.HostLoad))
	}
	add("modules in every DUT", strings.Join(e.Modules, ", "))
	for _, s := range run.Scenarios {
		add("more in "+s.Name, strings.Join(moreModules(s, e.Modules), ", "))
	}
	if run.Seconds > 0 {
		add("took", (time.Duration(run.Seconds*10) * time.Second / 10).String())
	}
	return slices.DeleteFunc(list, func(fact [2]string) bool { return fact[1] == "" })
}

// loadWords formats load averages over 1, 5 and 15 minutes.
func loadWords(averages []float64) string {
	words := make([]string, len(averages))
	for i, a := range averages {
		words[i] = strconv.FormatFloat(a, 'f', 2, 64)
	}
	return strings.Join(words, ", ") + " (1, 5, 15 min)"
}

// moreModules returns the modules that some trial of a scenario had loaded beside the common ones.
func moreModules(s results.Scenario, common []string) []string {
	var more []string
	for _, t := range s.Trials {
		more = addNew(more, t.Modules...)
	}
	return slices.DeleteFunc(more, func(name string) bool { return slices.Contains(common, name) })
}

// commands returns the commands that repeat the run, and that render it again.
func commands(run *results.Run) []string {
	if run.Experiment == "" {
		return nil
	}
	return []string{
		fmt.Sprintf("ctload run experiment.yaml --seed %d", run.Seed),
		fmt.Sprintf("ctload report RUN --format html -o %s.html", run.Experiment),
	}
}
