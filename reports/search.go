package reports

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/search"
)

// searchFormats are the formats of [Search].
var searchFormats = formats[*search.Report]{
	"table": searchTable,
	"json": func(b *bytes.Buffer, r *search.Report, _ Options) error {
		return results.WriteJSON(b, r)
	},
	"markdown": searchMarkdown,
	"csv":      searchCSV,
	"junit":    searchJUnit,
	"html":     searchHTML,
}

// SearchFormats returns the names that [Search] accepts, in alphabetical order.
func SearchFormats() []string { return searchFormats.names() }

// Search writes what a search found: a row for each scenario, its trials, and what bounds the use
// of the figures; as JSON the report itself.
func Search(w io.Writer, format string, report *search.Report, o Options) error {
	return searchFormats.render(w, "the search", format, report, o)
}

// searchLines returns the columns of a report.
func searchLines(f search.Found) []line {
	lines := []line{
		{column: column{name: "scenario", head: [2]string{"", "scenario"}, left: true}},
		{column: column{name: f.Goal, head: [2]string{"", f.Goal}}},
		{column: column{name: "low", head: [2]string{results.Percent(f.Confidence), "low"}}},
		{column: column{name: "high", head: [2]string{"", "high"}}},
		{column: column{name: "limit", head: [2]string{"", "limit"}, left: true}},
		{column: column{name: "predicted", head: [2]string{"", "predicted"}}},
		{column: column{name: "trials", head: [2]string{"", "trials"}}},
	}
	for _, s := range f.Scenarios {
		limit := string(s.Limit)
		if limit == "" {
			limit = none
		}
		predicted := none
		if s.Predicted > 0 {
			predicted = results.Figure(s.Predicted)
		}
		value := bound(s.Value)
		if s.Metric != "" && s.Value != nil { // the rows have units of their own
			value = s.Amount(*s.Value)
		}
		for i, cell := range []string{
			s.Name, value, bound(s.Low), bound(s.High), limit, predicted,
			strconv.Itoa(s.Trials),
		} {
			lines[i].cells = append(lines[i].cells, cell)
		}
	}
	return lines
}

// bound returns a figure, or a dash where it is not known.
func bound(v *float64) string {
	if v == nil {
		return none
	}
	return results.Figure(*v)
}

func searchTable(b *bytes.Buffer, r *search.Report, o Options) error {
	f := r.Search
	paragraph(b, "", f.Experiment+": "+f.Goal+" with "+conditionsOf(f), o.width())
	b.WriteByte('\n')
	if err := grid(b, searchLines(f), make([]row, len(f.Scenarios)), false); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, text := range searchWords(f) {
		paragraph(b, "", text, o.width())
	}
	return nil
}

// conditionsOf words what a trial must keep to hold.
func conditionsOf(f search.Found) string {
	text := "no attempt lost"
	if f.Loss > 0 {
		text = "at most " + results.Percent(f.Loss) + " of the attempts lost"
	}
	if f.Retried > 0 {
		text += ", at most " + results.Percent(f.Retried) + " after retries"
	} else {
		text += ", none after retries"
	}
	for _, condition := range f.Keep {
		text += ", and " + condition
	}
	return text
}

// searchWords words the known limit of each scenario, and the trials that show it.
func searchWords(f search.Found) (list []string) {
	for _, s := range f.Scenarios {
		text := s.Words(f.Confidence)
		if s.Stuck {
			text += "; the search ended there, since trials stayed INVALID"
		}
		var held, lost, measured []string
		for _, t := range s.Made {
			switch value := results.Figure(t.Value); {
			case t.Invalid:
			case t.Step == search.Measure:
				measured = append(measured, results.Figure(t.Estimate))
			case t.Held:
				held = append(held, value)
			default:
				lost = append(lost, value+shares(t.Shares))
			}
		}
		if len(held) > 0 {
			text += ". Held: " + strings.Join(held, "; ")
		}
		if len(lost) > 0 {
			text += ". Not held: " + strings.Join(lost, "; ")
		}
		if len(measured) > 0 {
			text += ". Measured: " + strings.Join(measured, "; ")
		}
		if s.Invalid > 0 {
			text += ". Not counted: " + howMany(s.Invalid, "INVALID trial")
		}
		list = append(list, text+".")
	}
	for _, note := range f.Notes {
		list = append(list, note+".")
	}
	return list
}

// shares words what became of the attempts of a trial that did not hold, behind its value.
func shares(s search.Shares) string {
	var list []string
	if s.Lost > 0 {
		list = append(list, results.Percent(s.Lost)+" of the attempts lost")
	}
	if s.Retried > 0 {
		list = append(list, "at most "+results.Percent(s.Retried)+" after retries")
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func searchMarkdown(b *bytes.Buffer, r *search.Report, _ Options) error {
	f := r.Search
	fmt.Fprintf(b, "### %s\n\n%s\n\n", markdownText(f.Experiment+": "+f.Goal),
		markdownText("With "+conditionsOf(f)+"; low and high are the bounds of the limit at "+
			results.Percent(f.Confidence)+"."))
	markdownGrid(b, searchLines(f))
	for _, text := range searchWords(f) {
		b.WriteString("- " + markdownText(text) + "\n")
	}
	return nil
}

// searchCSV writes a row for each trial.
func searchCSV(b *bytes.Buffer, r *search.Report, _ Options) error {
	records := [][]string{{
		"experiment", "goal", "scenario", "step", "value", "unit", "invalid", "held", "loss",
		"after_retries", "fill", "limit", "estimate",
	}}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, s := range r.Search.Scenarios {
		for _, t := range s.Made {
			records = append(records, []string{
				printable.Cell(r.Search.Experiment), printable.Cell(r.Search.Goal),
				printable.Cell(s.Name), string(t.Step), number(t.Value), s.Unit,
				strconv.FormatBool(t.Invalid), strconv.FormatBool(t.Held), number(t.Lost),
				number(t.Retried), number(t.Fill), string(t.Limit), number(t.Estimate),
			})
		}
	}
	return csv.NewWriter(b).WriteAll(records)
}

// searchJUnit writes a case for each scenario: an error where its limit was not found, a failure
// where it is below --at-least.
func searchJUnit(b *bytes.Buffer, r *search.Report, _ Options) error {
	f := r.Search
	suite := junitSuite{
		Package: f.Experiment, Name: f.Goal, Hostname: "localhost", Time: "0.000",
		Timestamp: f.Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"goal", f.Goal}, {"conditions", conditionsOf(f)},
		},
		Out: strings.Join(searchWords(f), "\n"),
	}
	for _, s := range f.Scenarios {
		text := s.Words(f.Confidence)
		one := junitCase{Name: s.Name}
		switch {
		case s.Value == nil:
			one.Error = &junitResult{"unknown", text, text}
		case f.TooLow(s):
			one.Failure = &junitResult{"at-least", text, text}
		}
		suite.add(one)
	}
	return writeJUnit(b, junitSuites{Suites: []junitSuite{suite}})
}
