package reports

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/search"
)

// searchHTML writes a search as one page that needs no network and no other file; with o.Trials and
// o.Series it has the curves of the trials.
func searchHTML(b *bytes.Buffer, r *search.Report, o Options) error {
	f := r.Search
	d := newPage(f.Experiment+": "+f.Goal, "With "+conditionsOf(f), o)
	d.Answer.Before = appendPoint(nil, "Limit", searchWords(f))
	list := make([]row, len(f.Scenarios))
	for i, s := range f.Scenarios {
		list[i].name = s.Name
	}
	d.TableTitle, d.Table = "Limits", tableOf("", list, searchLines(f))
	d.TableNote = "Low and high are the bounds of the limit at " +
		results.Percent(f.Confidence) + "."
	if f.Over != "" {
		d.Drawings = append(d.Drawings, *curve(f))
	}
	for _, part := range byUnit(f) {
		if trials := trialsChart(part); trials != nil {
			d.Drawings = append(d.Drawings, *trials)
		}
	}
	if o.Trials != nil {
		run := printable.Of(o.Trials)
		if err := d.measured(run, rows(run), latest(run), o); err != nil {
			return err
		}
		d.Latencies = nil // of trials beyond the limit and far below it
	}
	return page.Execute(b, d)
}

// latest returns the values that a search tried last, as many as can be told apart.
func latest(run *results.Run) (names []string) {
	for _, s := range slices.Backward(run.Scenarios) {
		if s.Valid() > 0 && len(names) < mostOverlaid {
			names = append(names, s.Name)
		}
	}
	return names
}

// byUnit divides what a search found into parts that one axis can show: each metric by itself.
func byUnit(f search.Found) (parts []search.Found) {
	var metrics []string
	for _, s := range f.Scenarios {
		metrics = addNew(metrics, s.Metric)
	}
	for _, metric := range metrics {
		part := f
		part.Scenarios = nil
		for _, s := range f.Scenarios {
			if s.Metric == metric {
				part.Scenarios = append(part.Scenarios, s)
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// known are the values of a scenario's limit that are known.
func known(s search.Scenario) (list []float64) {
	for _, v := range []*float64{s.Value, s.Low, s.High} {
		if v != nil {
			list = append(list, *v)
		}
	}
	if s.Predicted > 0 {
		list = append(list, s.Predicted)
	}
	return list
}

// trialsChart draws a line for each scenario with the values that were tried: filled where the
// trial held, and the interval of the limit behind them. It is nil without a valid trial.
func trialsChart(f search.Found) *chart {
	const width, left, height, top = 900.0, 220.0, 34.0, 10.0
	var all []float64
	tried := false
	for _, s := range f.Scenarios {
		all = append(all, known(s)...)
		for _, t := range s.Made {
			if !t.Invalid {
				all, tried = append(all, shown(t)), true
			}
		}
	}
	if !tried {
		return nil
	}
	bottom := top + height*float64(len(f.Scenarios))
	c := &chart{
		Width: width, Height: bottom + 28,
		Caption: "Values that were tried: filled where the trial held, hollow where it did not; " +
			"behind them the interval of the limit, and a dashed line at the prediction",
	}
	x := scaleOf(left, width-20, all)
	c.abscissa(x, top, bottom, unitOf(f))
	for i, s := range f.Scenarios {
		y := top + height*(float64(i)+.5)
		c.Labels = append(c.Labels, label{left - 12, y + 4, "end", s.Name, tone(i)})
		if s.Low != nil || s.High != nil {
			from, to := x.from, x.to
			if s.Low != nil {
				from = x.at(*s.Low)
			}
			if s.High != nil {
				to = x.at(*s.High)
			}
			c.Bars = append(c.Bars, stroke{from, y, to, y, tone(i)})
		}
		if s.Predicted > 0 {
			var p points
			p.add(x.at(s.Predicted), y-height/2+3)
			p.add(x.at(s.Predicted), y+height/2-3)
			c.Paths = append(c.Paths, p.path(tone(i), true))
		}
		for _, t := range s.Made {
			if t.Invalid {
				continue
			}
			text := results.Figure(shown(t)) + unitOf(f) + " held"
			switch {
			case t.Step == search.Measure:
				text = results.Figure(shown(t)) + unitOf(f)
			case !t.Held:
				text = results.Figure(t.Value) + unitOf(f) + " did not hold" + shares(t.Shares)
			}
			hollow := !t.Held && t.Step != search.Measure
			c.Dots = append(c.Dots, dot{x.at(shown(t)), y, tone(i), hollow, text})
		}
	}
	return c
}

// shown returns the value at which a chart shows a trial: what it measured, or what was tried.
func shown(t search.Trial) float64 {
	if t.Step == search.Measure {
		return t.Estimate
	}
	return t.Value
}

// curve draws the limits of a search with an axis: a line for each scenario of the experiment with
// its intervals, and a dashed one for what was predicted.
func curve(f search.Found) *chart {
	const width, height, left, top, right = 900.0, 380.0, 80.0, 20.0, 200.0
	c := &chart{
		Width: width, Height: height,
		Caption: fmt.Sprintf("%s by %s, with the interval of each limit; dashed: predicted",
			f.Goal, f.Over),
	}
	var over, values []float64
	for _, s := range f.Scenarios {
		if at, err := strconv.ParseFloat(s.Over, 64); err == nil {
			over = append(over, at)
		}
		values = append(values, known(s)...)
	}
	bottom := height - 40
	x, y := scaleOf(left, width-right, over), scaleOf(bottom, top, values)
	for _, v := range y.ticks() {
		c.Grid = append(c.Grid, stroke{left, y.at(v), width - right, y.at(v), ""})
		c.Labels = append(c.Labels, label{left - 8, y.at(v) + 4, "end",
			results.Figure(v) + unitOf(f), ""})
	}
	drawn := map[float64]bool{}
	for _, v := range over {
		if !drawn[v] {
			drawn[v] = true
			c.Grid = append(c.Grid, stroke{x.at(v), top, x.at(v), bottom, ""})
			c.Labels = append(c.Labels,
				label{x.at(v), bottom + 18, "middle", results.Figure(v), ""})
		}
	}
	c.Labels = append(c.Labels, label{(left + width - right) / 2, height - 4, "middle", f.Over, ""})
	var names []string
	for _, s := range f.Scenarios {
		names = addNew(names, s.Of)
	}
	for i, name := range names {
		c.Labels = append(c.Labels,
			label{width - right + 16, top + 14 + 20*float64(i), "start", name, tone(i)})
		var limit, predicted points
		for _, s := range f.Scenarios {
			at, err := strconv.ParseFloat(s.Over, 64)
			if s.Of != name || err != nil {
				continue
			}
			if s.Predicted > 0 {
				predicted.add(x.at(at), y.at(s.Predicted))
			}
			if s.Low != nil && s.High != nil {
				c.Bars = append(c.Bars, stroke{x.at(at), y.at(*s.Low), x.at(at), y.at(*s.High),
					tone(i)})
			}
			if s.Value != nil {
				limit.add(x.at(at), y.at(*s.Value))
				// A bound alone is no limit: the mark is hollow.
				c.Dots = append(c.Dots, dot{x.at(at), y.at(*s.Value), tone(i),
					s.Low == nil || s.High == nil, s.Words(f.Confidence)})
			}
		}
		c.Paths = append(c.Paths, limit.path(tone(i), false), predicted.path(tone(i), true))
	}
	return c
}

// unitOf returns the unit of a search's values, as it follows a number.
func unitOf(f search.Found) string {
	switch {
	case len(f.Scenarios) == 0:
		return ""
	case f.Scenarios[0].Unit == "/s":
		return "/s"
	}
	return " " + f.Scenarios[0].Unit
}
