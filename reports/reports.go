// Package reports renders a run: terminal table, JSON, Markdown, CSV, JUnit XML, HTML and
// OpenMetrics. It only renders: each figure comes from package results, and the same run gives the
// same bytes.
//
// # The table
//
// A row is a scenario. Its figures are medians over its valid trials, with the distance of the
// farthest trial from the median (±12%) where they differ. The row counts INVALID trials, the text
// under the table names them with their reasons, and no figure includes them. A dash stands for a
// figure that does not exist, such as the time to full of a table that was never full.
//
// Every format has the conclusion, [results.Conclude]: documents for people begin with it, JSON has
// it as conclusion, CSV a column with what it says of each scenario.
//
// On a narrow terminal the least important columns are dropped until the table fits, in the order
// of columns.go. The rare ones appear only where a trial has something to show in them, seconds to
// heal and broken only where a trial has actions.
package reports

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/results"
)

// Options say how to render. The zero value is a plain table for 80 columns.
type Options struct {
	Width int  // of the terminal in columns, for the table; 0 stands for 80
	Wide  bool // keep all columns of the table, however wide it gets
	Color bool // mark verdicts with ANSI colours, in the table
	// Verbose adds to the table what each trial saw, and notes on the figures; Details adds it of
	// these scenarios alone.
	Verbose bool
	Details []string
	Series  SeriesSource // for the charts of the HTML page; nil leaves the charts out
	Trials  *results.Run // of a search, for its HTML page; nil leaves them out
	// Live makes the HTML page one of trials that go on, with this number; empty: they have ended.
	Live string
}

// detailed reports whether the table says all that is known of a scenario.
func (o Options) detailed(scenario string) bool {
	return o.Verbose || slices.Contains(o.Details, scenario)
}

// width returns the columns of the terminal that a text may fill.
func (o Options) width() int { return max(minWidth, cmp.Or(o.Width, defaultWidth)) }

// formats are the functions that write one kind of document, by the names of their formats.
type formats[D any] map[string]func(*bytes.Buffer, D, Options) error

// runFormats are the formats of [Render].
var runFormats = formats[*results.Run]{
	"table": renderTable,
	"json": func(b *bytes.Buffer, run *results.Run, _ Options) error {
		return results.Encode(b, run)
	},
	"markdown":    renderMarkdown,
	"csv":         renderCSV,
	"junit":       renderJUnit,
	"html":        renderHTML,
	"openmetrics": renderOpenMetrics,
}

// Formats returns the names that [Render] accepts, in alphabetical order.
func Formats() []string { return runFormats.names() }

func (f formats[D]) names() []string { return slices.Sorted(maps.Keys(f)) }

// check names the nearest format when format is unknown, before hours of measurement.
func (f formats[D]) check(format string) error {
	if _, ok := f[format]; ok {
		return nil
	}
	return fmt.Errorf("unknown format %q%s", format, spelling.Hint(format, f.names()))
}

// rawFormats get a document as it is: what they write escapes it.
var rawFormats = []string{"json"}

// render writes a document, or nothing of it after an error; what names the document in errors.
// Documents hold text of strangers: it is printable in every format.
func (f formats[D]) render(w io.Writer, what, format string, document D, o Options) error {
	if err := f.check(format); err != nil {
		return err
	}
	if !slices.Contains(rawFormats, format) {
		document = printable.Of(document)
	}
	var b bytes.Buffer
	err := f[format](&b, document, o)
	if err == nil {
		_, err = w.Write(b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("rendering %s as %s: %w", what, format, err)
	}
	return nil
}

// textOrJSON returns the formats of a document that readers get as text and scripts as JSON.
func textOrJSON[D any](text func(*bytes.Buffer, D, Options) error) formats[D] {
	return formats[D]{"table": text, "json": func(b *bytes.Buffer, document D, _ Options) error {
		return results.WriteJSON(b, document)
	}}
}

// renderCSV writes a row for each trial, also the invalid ones, with a header of the figures' paths
// in run.json: raw values for a spreadsheet or a data frame, as RFC 4180 with LF ends of line. The
// last column is what the conclusion says of the scenario. A text that a spreadsheet would take for
// a formula begins with an apostrophe.
func renderCSV(b *bytes.Buffer, run *results.Run, _ Options) error {
	records := [][]string{{"experiment", "scenario"}}
	w := results.WorkloadOf(run)
	for _, c := range w.Flatten(&results.Trial{}) {
		records[0] = append(records[0], printable.Cell(c.Path))
	}
	records[0] = append(records[0], "conclusion")
	conclusion := results.Conclude(run)
	for _, s := range run.Scenarios {
		for i := range s.Trials {
			record := []string{printable.Cell(run.Experiment), printable.Cell(s.Name)}
			for _, c := range w.Flatten(&s.Trials[i]) {
				record = append(record, printable.Cell(c.Value))
			}
			record = append(record, printable.Cell(conclusion.Of(s.Name)))
			records = append(records, record)
		}
	}
	return csv.NewWriter(b).WriteAll(records)
}

// Render writes the run in the given format.
func Render(w io.Writer, format string, run *results.Run, o Options) error {
	return runFormats.render(w, "the run", format, run, o)
}

// File is a report written to a file, beside the printed one.
type File struct {
	Format, Path string
}

// ParseFiles parses reports given as FORMAT=FILE, such as junit=report.xml. It refuses what would
// fail after hours of measurement: an unknown format, a missing folder, a file named twice.
func ParseFiles(texts []string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	for _, text := range texts {
		format, path, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return nil, fmt.Errorf("report %q: it is FORMAT=FILE, such as junit=report.xml", text)
		}
		if err := runFormats.check(format); err != nil {
			return nil, fmt.Errorf("report %q: %w", text, err)
		}
		path = filepath.Clean(path)
		if seen[path] {
			return nil, fmt.Errorf("report %q: another report goes to that file", text)
		}
		seen[path] = true
		folder, err := os.Stat(filepath.Dir(path))
		if err == nil && !folder.IsDir() {
			err = fmt.Errorf("%s is not a folder", filepath.Dir(path))
		}
		if err == nil {
			err = writable(path)
		}
		if err != nil {
			return nil, fmt.Errorf("report %q: %w", text, err)
		}
		files = append(files, File{format, path})
	}
	return files, nil
}

// writable refuses a file that could not be written.
func writable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		path = filepath.Dir(path)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	}
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return nil
}

// WriteFiles writes the run into each file, also after an error with another file.
func WriteFiles(files []File, run *results.Run, o Options) error {
	// A file is no terminal.
	o = Options{Wide: o.Wide, Series: o.Series, Verbose: o.Verbose, Details: o.Details}
	var failed error
	for _, f := range files {
		file, err := os.Create(f.Path)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("writing a report: %w", err))
			continue
		}
		failed = errors.Join(failed, Render(file, f.Format, run, o), file.Close())
	}
	return failed
}
