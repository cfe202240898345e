package reports

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// historyFormats are the formats of [History].
var historyFormats = formats[[]*compare.History]{
	"table": func(b *bytes.Buffer, list []*compare.History, o Options) error {
		for i, h := range list {
			if i > 0 {
				b.WriteByte('\n')
			}
			if err := sectionsTable(b, historySections(h, o.Verbose), o); err != nil {
				return err
			}
		}
		return nil
	},
	"json": historyJSON,
	"markdown": func(b *bytes.Buffer, list []*compare.History, _ Options) error {
		for _, h := range list {
			sectionsMarkdown(b, historySections(h, true))
		}
		return nil
	},
	"html": func(b *bytes.Buffer, list []*compare.History, _ Options) error {
		var all []section
		var names []string
		for _, h := range list {
			all = append(all, historySections(h, true)...)
			names = append(names, h.Experiment)
		}
		return writeSections(b, "History of "+strings.Join(names, ", "), "", all)
	},
}

// HistoryFormats returns the names that [History] accepts.
func HistoryFormats() []string { return historyFormats.names() }

// History writes the histories of experiments: what changed, then each figure over the runs.
func History(w io.Writer, format string, list []*compare.History, o Options) error {
	return historyFormats.render(w, "the history", format, list, o)
}

// historySections returns a history in parts; all of it, or the figures that moved.
func historySections(h *compare.History, all bool) []section {
	list := []section{{Title: historyTitle(h), Sentences: shifts(h)}}
	quiet := 0
	for _, c := range h.Scenarios {
		s := section{
			Title: c.Scenario, Sentences: []string{verdictCourse(h, c)},
			Heads: [][2]string{
				{"", "figure"}, {"", "over the runs"}, {"", "lowest"}, {"", "highest"},
				{"", "latest"},
			},
			Left: 2, Chart: historyChart(h, c),
		}
		for _, t := range c.Trends {
			values := slices.DeleteFunc(slices.Clone(t.Values), math.IsNaN)
			low, high := slices.Min(values), slices.Max(values)
			if low == high && !all {
				quiet++
				continue
			}
			s.Rows = append(s.Rows, []string{
				figureWords(t.Metric), sparkline(t.Values), t.Metric.Bare(low), t.Metric.Bare(high),
				t.Metric.Bare(t.Latest()),
			})
		}
		list = append(list, s)
	}
	notes := slices.Clone(h.Notes)
	if quiet > 0 {
		notes = append(notes,
			howMany(quiet, "figure")+" with the same value in all runs left out (--verbose)")
	}
	if all {
		list = append(list, runsSection(h))
	}
	if len(notes) > 0 {
		list = append(list, section{Title: "Notes", Sentences: notes})
	}
	return list
}

func historyTitle(h *compare.History) string {
	const day = "2 January 2006"
	first, last := h.Runs[0].Started.Format(day), h.Runs[len(h.Runs)-1].Started.Format(day)
	when := first
	if first != last {
		when += " to " + last
	}
	return fmt.Sprintf("%s: %s, %s", h.Experiment, howMany(len(h.Runs), "run"), when)
}

// figureWords names a metric with its unit.
func figureWords(m compare.Metric) string {
	if m.Unit == "" || m.Unit == "/s" { // the name says it
		return m.Name
	}
	return m.Name + " [" + m.Unit + "]"
}

// shifts words the changes of all figures, those of one scenario and one run together: first where
// a figure became worse, then by run.
func shifts(h *compare.History) []string {
	type place struct {
		run      int
		scenario string
	}
	type group struct {
		place
		worse   bool
		p       float64 // the highest
		figures []string
		beside  []string
	}
	var list []*group
	for _, c := range h.Scenarios {
		for _, t := range c.Trends {
			for _, s := range t.Changes {
				at := place{s.Run, c.Scenario}
				i := slices.IndexFunc(list, func(g *group) bool { return g.place == at })
				if i < 0 {
					i, list = len(list), append(list, &group{place: at})
				}
				g := list[i]
				g.worse, g.p = g.worse || s.Direction > 0, max(g.p, s.P)
				g.figures = append(g.figures, fmt.Sprintf("%s %s -> %s%s", t.Metric.Name,
					t.Metric.Words(s.Before), t.Metric.Words(s.After),
					map[int]string{1: " (worse)", -1: " (better)"}[s.Direction]))
				g.beside = addNew(g.beside, s.Beside...)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *group) int {
		switch {
		case a.worse == b.worse:
			return a.run - b.run
		case a.worse:
			return -1
		default:
			return 1
		}
	})
	var texts []string
	for _, g := range list {
		text := fmt.Sprintf("%s, from %s on: %s; %s", g.scenario, h.Runs[g.run].Name,
			strings.Join(g.figures, ", "), probability(g.p))
		if len(g.beside) > 0 {
			text += ". " + strings.Join(g.beside, "; ")
		}
		texts = append(texts, text)
	}
	if texts == nil {
		texts = []string{"No change of a figure's level is significant."}
	}
	return texts
}

// probability words the p-value of changes.
func probability(p float64) string {
	if p < 0.001 {
		return "p < 0.001"
	}
	return fmt.Sprintf("p <= %.3f", p)
}

// verdictCourse words the verdicts over the runs: each stretch of alike ones.
func verdictCourse(h *compare.History, c compare.Course) string {
	var parts []string
	for i := 0; i < len(c.Verdicts); {
		j := i
		for j < len(c.Verdicts) && c.Verdicts[j] == c.Verdicts[i] {
			j++
		}
		word := c.Verdicts[i]
		if word == "" {
			word = "no valid trial"
		}
		text := fmt.Sprintf("%s in %s", word, howMany(j-i, "run"))
		if i > 0 {
			text += " from " + h.Runs[i].Name + " on"
		}
		parts = append(parts, text)
		i = j
	}
	if n := len(parts); n > fewStretches {
		parts = append([]string{"..."}, parts[n-fewStretches:]...)
	}
	return "verdict: " + strings.Join(parts, ", then ")
}

// fewStretches is the number of stretches of alike verdicts that a text names.
const fewStretches = 4

// sparkRuns is the number of runs that a sparkline shows: the last ones.
const sparkRuns = 24

// sparkline draws values as bars from the lowest to the highest, in one line: a dot where a run has
// none, an arrow for a time that never came.
func sparkline(values []float64) string {
	values = values[max(0, len(values)-sparkRuns):]
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteRune('·')
		case math.IsInf(v, 0):
			b.WriteRune('↑')
		case low == high:
			b.WriteRune(bars[0])
		default:
			b.WriteRune(bars[int(math.Round((v-low)/(high-low)*float64(len(bars)-1)))])
		}
	}
	return b.String()
}

// Sizes of a history's chart, in pixels: a strip for each figure, left of it the figure's name.
const (
	historyWidth, stripHeight, stripTop = 960.0, 74.0, 22.0
	stripLeft                           = 250.0
)

// historyChart draws the figures of a scenario that moved, each in a strip of its own from its
// lowest value to its highest, with a line where its level changed; nil where none moved.
func historyChart(h *compare.History, c compare.Course) *chart {
	drawn := &chart{
		Caption: "The medians of each run, from the lowest to the highest; " +
			"a dashed line is a change of the level",
		Width: historyWidth,
	}
	x := func(run int) float64 {
		step := (historyWidth - stripLeft - 20) / float64(max(1, len(h.Runs)-1))
		return math.Round(10*(stripLeft+step*float64(run))) / 10
	}
	for _, t := range c.Trends {
		low, high := math.Inf(1), math.Inf(-1)
		for _, v := range t.Values {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				low, high = min(low, v), max(high, v)
			}
		}
		if !(low < high) {
			continue
		}
		top := drawn.Height + stripTop
		bottom := top + stripHeight - stripTop - 10
		drawn.Height += stripHeight
		drawn.Grid = append(drawn.Grid, stroke{stripLeft, bottom, historyWidth - 20, bottom, ""})
		drawn.Labels = append(drawn.Labels,
			label{0, top + 16, "start", figureWords(t.Metric), ""},
			label{stripLeft - 8, top + 5, "end", t.Metric.Bare(high), "--quiet"},
			label{stripLeft - 8, bottom + 5, "end", t.Metric.Bare(low), "--quiet"})
		var line points
		for run, v := range t.Values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			y := math.Round(10*(bottom-(bottom-top)*(v-low)/(high-low))) / 10
			line.add(x(run), y)
			drawn.Dots = append(drawn.Dots, dot{
				X: x(run), Y: y, Tone: "--c0", Text: h.Runs[run].Name + ": " + t.Metric.Words(v),
			})
		}
		drawn.Paths = append(drawn.Paths, line.path("--c0", false))
		for _, s := range t.Changes {
			tone := map[int]string{1: "--bad", -1: "--good", 0: "--quiet"}[s.Direction]
			var cut points
			at := (x(s.Run-1) + x(s.Run)) / 2
			cut.add(at, top-6)
			cut.add(at, bottom)
			drawn.Paths = append(drawn.Paths, cut.path(tone, true))
		}
	}
	if drawn.Height == 0 {
		return nil
	}
	return drawn
}

func runsSection(h *compare.History) section {
	s := section{Title: "Runs", Left: 4, Heads: [][2]string{
		{"", "run"}, {"", "started"}, {"", "ctload"}, {"", "kernel"}, {"", "tags"},
	}}
	for _, r := range h.Runs {
		s.Rows = append(s.Rows, []string{
			r.Name, r.Started.Format("2006-01-02 15:04"), r.Ctload, r.Kernel, tagWords(r.Tags),
		})
	}
	return s
}

// tagWords words the tags of a run, by key.
func tagWords(tags map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		words = append(words, key+"="+tags[key])
	}
	return strings.Join(words, ", ")
}

// The JSON form of a history. A figure that a run lacks is null, and so is a time that never came.
type (
	jsonHistory struct {
		Experiment string       `json:"experiment"`
		Runs       []jsonRun    `json:"runs"` // the oldest first
		Scenarios  []jsonCourse `json:"scenarios"`
		Notes      []string     `json:"notes"`
	}
	jsonRun struct {
		Name    string            `json:"name"`
		Started time.Time         `json:"started"`
		Ctload  string            `json:"ctload"`
		Kernel  string            `json:"kernel"`
		Tags    map[string]string `json:"tags,omitempty"`
	}
	jsonCourse struct {
		Name     string      `json:"name"`
		Verdicts []string    `json:"verdicts"` // of each run; empty without a valid trial
		Figures  []jsonTrend `json:"figures"`
	}
	jsonTrend struct {
		Name    string      `json:"name"` // path in run.json
		Unit    string      `json:"unit,omitempty"`
		Values  []*float64  `json:"values"` // medians of each run
		Changes []jsonShift `json:"changes"`
	}
	jsonShift struct {
		Run    string   `json:"run"` // the first one after the change
		Before *float64 `json:"before"`
		After  *float64 `json:"after"`
		P      float64  `json:"p"`
		Worse  bool     `json:"worse"`
		Better bool     `json:"better"`
		Beside []string `json:"beside,omitempty"` // what else changed with that run
	}
)

func historyJSON(b *bytes.Buffer, list []*compare.History, _ Options) error {
	documents := []jsonHistory{}
	for _, h := range list {
		d := jsonHistory{Experiment: h.Experiment, Notes: append([]string{}, h.Notes...)}
		for _, r := range h.Runs {
			d.Runs = append(d.Runs, jsonRun(r))
		}
		for _, c := range h.Scenarios {
			course := jsonCourse{Name: c.Scenario, Verdicts: c.Verdicts, Figures: []jsonTrend{}}
			for _, t := range c.Trends {
				trend := jsonTrend{
					Name: t.Metric.Name, Unit: t.Metric.Unit, Changes: []jsonShift{},
				}
				for _, v := range t.Values {
					trend.Values = append(trend.Values, number64(v))
				}
				for _, s := range t.Changes {
					trend.Changes = append(trend.Changes, jsonShift{
						Run: h.Runs[s.Run].Name, Before: number64(s.Before),
						After: number64(s.After), P: s.P, Worse: s.Direction > 0,
						Better: s.Direction < 0, Beside: s.Beside,
					})
				}
				course.Figures = append(course.Figures, trend)
			}
			d.Scenarios = append(d.Scenarios, course)
		}
		documents = append(documents, d)
	}
	return results.WriteJSON(b, documents)
}
