package reports

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/results"
)

// heading writes the experiment's name and summary, and whether the run came to its end.
func heading(b *bytes.Buffer, run *results.Run, width int, color bool) {
	b.WriteString(emphasis(run.Experiment, color))
	b.WriteByte('\n')
	if run.Summary != "" {
		paragraph(b, "", run.Summary, width)
	}
	if text := partial(run); text != "" {
		paragraph(b, "", "INVALID: "+text, width)
	}
	b.WriteByte('\n')
}

// partial words why a run cannot stand for the whole, or returns an empty text.
func partial(run *results.Run) string {
	err := run.Part("")
	if err == nil {
		return ""
	}
	text := err.Error()
	if run.Interrupted {
		text += " (it was interrupted after " + results.Figure(run.Seconds) + " s)"
	}
	return text
}

// told is the text about one scenario, one or more sentences in each line.
type told struct {
	name  string
	lines []string
}

// tell words for each scenario what happened and why, then which trials were invalid.
func tell(list []row) []told {
	var all []told
	for _, r := range list {
		t := told{name: r.name}
		if typical, ok := r.typical(); ok {
			text := typical.Sentence
			if len(r.valid) > 1 {
				text = fmt.Sprintf("Trial %d: %s", typical.Number, text)
			}
			t.lines = append(append(t.lines, text), results.Insights(&typical)...)
		}
		for _, bad := range r.invalid {
			text := "INVALID: "
			if r.trials > 1 {
				text = fmt.Sprintf("INVALID, trial %d: ", bad.Number)
			}
			t.lines = append(t.lines, text+bad.WhyInvalid())
		}
		for _, spoilt := range r.repeated {
			t.lines = append(t.lines, fmt.Sprintf(
				"The host spoilt trial %d, and trial %d repeated it: %s",
				spoilt.Number, spoilt.RepeatedAs, spoilt.WhyInvalid()))
		}
		if r.trials == 0 {
			t.lines = append(t.lines, "Not run.")
		}
		all = append(all, t)
	}
	return all
}

// judgements returns how many thresholds held, those that did not, and regressions.
func judgements(run *results.Run) []judgement {
	var lines []judgement
	add := func(format string, args ...any) {
		lines = append(lines, judgement{Text: fmt.Sprintf(format, args...)})
	}
	all, held := 0, 0
	var unmeasured []string
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for _, o := range s.Thresholds {
			if all++; o.Passed {
				held++
			}
		}
		if len(s.Thresholds) > 0 && s.Valid() == 0 {
			unmeasured = append(unmeasured, s.Name)
		}
	}
	if all > 0 {
		add("%d of %d thresholds held", held, all)
	}
	fail := func(text string) { lines = append(lines, judgement{text, true}) }
	if len(unmeasured) > 0 {
		fail("no valid trial to judge: " + strings.Join(unmeasured, ", "))
	}
	for _, s := range run.Scenarios {
		for _, o := range s.Thresholds {
			if !o.Passed && !slices.Contains(unmeasured, s.Name) {
				fail(o.Failure(s.Name))
			}
		}
	}
	if run.Baseline != "" {
		found := howMany(len(run.Regressions), "regression")
		text := fmt.Sprintf("%s against %s (%s allowed", found, run.Baseline,
			results.Percent(run.MaxRegression))
		if len(run.BaselineUnsure) > 0 {
			text += "; too few trials to be sure of " + strings.Join(run.BaselineUnsure, ", ")
		}
		add("%s)", text)
	}
	for _, r := range run.Regressions {
		fail(r.Failure())
	}
	return lines
}

func howMany(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun
	case 1:
		return "1 " + noun
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}

// The kinds of outcome that a run has.
const (
	outcomePassed  = "passed"
	outcomeFailed  = "failed"
	outcomeInvalid = "invalid"
	outcomeOpen    = "open" // the run has neither thresholds nor a baseline
)

// outcomeOf words the result of the whole run briefly, and returns its kind.
func outcomeOf(run *results.Run) (words, kind string) {
	judged := slices.ContainsFunc(run.Scenarios, func(s results.Scenario) bool {
		return len(s.Thresholds) > 0
	})
	switch {
	case len(results.Unmeasured(run)) > 0:
		return "INVALID: not everything was measured", outcomeInvalid
	case len(results.Failures(run)) > 0:
		return "failed", outcomeFailed
	case run.Baseline == "" && !judged:
		return "no thresholds", outcomeOpen
	default:
		return "passed", outcomePassed
	}
}

// paragraph writes a text wrapped at the width after first, the other lines indented as far.
func paragraph(b *bytes.Buffer, first, text string, width int) {
	indent := runewidth.StringWidth(first)
	column := indent
	b.WriteString(first)
	for i, word := range unbroken(text) {
		n := runewidth.StringWidth(word)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	b.WriteByte('\n')
}

// units are the words that stay on the line of the number before them.
var units = []string{"%", "s", "ms", "KiB", "MiB", "GiB"}

// unbroken returns the words of a text, a number and its unit as one.
func unbroken(text string) (words []string) {
	for _, word := range strings.Fields(text) {
		bare := strings.TrimRight(word, ".,;:)")
		n := len(words)
		if n > 0 && slices.Contains(units, bare) && endsInDigit(words[n-1]) {
			words[n-1] += " " + word
			continue
		}
		words = append(words, word)
	}
	return words
}

func endsInDigit(word string) bool {
	return word[len(word)-1] >= '0' && word[len(word)-1] <= '9'
}

// environment returns what the figures depend on, in one line.
func environment(run *results.Run) string {
	e := run.Environment
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	add("driver ", e.Driver)
	add("box ", e.Boxed())
	add("", e.Accelerator)
	add("kernel ", strings.Join(releases(run), ", "))
	add("QEMU ", e.QEMU)
	add("libvirt ", e.Libvirt)
	if e.HostCPUs > 0 {
		add("host with ", howMany(e.HostCPUs, "CPU"))
	}
	return strings.Join(parts, ", ")
}

// releases returns the kernel releases that the guests reported, in the order of the scenarios.
func releases(run *results.Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		for _, t := range s.Trials {
			if t.Kernel != "" {
				list = addNew(list, t.Kernel)
			}
		}
	}
	if len(list) == 0 && run.Environment.Kernel != "" {
		list = append(list, run.Environment.Kernel)
	}
	return list
}

// addNew appends the words that a list does not have yet.
func addNew(list []string, words ...string) []string {
	for _, word := range words {
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}

// notes writes the run's warnings and where the rest is, or all that is known of the figures where
// the options ask for it.
func notes(b *bytes.Buffer, run *results.Run, all []string, dropped int, o Options) {
	width := o.width()
	for _, warning := range run.Warnings {
		paragraph(b, "warning: ", warning, width)
	}
	var hints []string
	if dropped > 0 {
		hints = append(hints, howMany(dropped, "column")+" (--wide)")
	}
	if o.Verbose {
		for _, text := range all {
			paragraph(b, "note: ", text, width)
		}
	} else if n := len(run.BaselineNotes); n > 0 {
		hints = append(hints,
			howMany(n, "note")+" on the baseline and what each scenario saw (--verbose)")
	} else {
		hints = append(hints, "what each scenario saw (--verbose)")
	}
	if len(hints) > 0 {
		paragraph(b, "left out: ", strings.Join(hints, ", "), width)
	}
}

// footnotes explain the figures of this run; the formats share them.
func footnotes(run *results.Run, list []row) []string {
	var texts []string
	add := func(format string, args ...any) { texts = append(texts, fmt.Sprintf(format, args...)) }
	if several(list) {
		add("figures are medians of the valid trials; ± is the distance of the farthest trial")
	}
	remarks := byText(list, "", func(t results.Trial) []string { return t.Remarks })
	const drops = "drops could not be counted by the kernel's reason: "
	uncounted := byText(list, drops, func(t results.Trial) []string {
		return []string{orZero(t.Stack).DropReasonsMissing}
	})
	texts = slices.Concat(texts, remarks, uncounted, run.BaselineNotes)
	if note := run.Environment.AcceleratorNote; note != "" {
		add("the accelerator is %s, since %s", run.Environment.Accelerator, note)
	}
	return texts
}

// byText returns each text of the valid trials once, after the names of the scenarios that have it.
func byText(list []row, what string, of func(results.Trial) []string) []string {
	names := map[string][]string{}
	for _, r := range list {
		for _, t := range r.valid {
			for _, text := range of(t) {
				if text != "" {
					names[text] = addNew(names[text], r.name)
				}
			}
		}
	}
	var texts []string
	for _, text := range slices.Sorted(maps.Keys(names)) {
		texts = append(texts, fmt.Sprintf("%s: %s%s", strings.Join(names[text], ", "), what, text))
	}
	return texts
}
