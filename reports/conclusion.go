package reports

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/results"
)

// point is a labelled part of the answer.
type point struct {
	Label string
	Lines []judgement
}

// judgement is a line of an answer.
type judgement struct {
	Text string
	Bad  bool // a reason to fail
}

// answer is the conclusion of a run in labelled parts: what comes before the lines to apply, and
// what comes after them.
type answer struct {
	results.Conclusion
	Before, After []point
}

// answerOf words the conclusion of a run for all formats.
func answerOf(run *results.Run) answer {
	a := answer{Conclusion: results.Conclude(run)}
	before := func(label string, texts ...string) { a.Before = appendPoint(a.Before, label, texts) }
	after := func(label string, texts ...string) { a.After = appendPoint(a.After, label, texts) }
	before("Broke", broke(run, a.Conclusion)...)
	label := "Change"
	switch fixed := func(f results.Fix) bool { return f.Fixed }; {
	case slices.ContainsFunc(a.Fixes, fixed):
		label = "Fix"
	case len(a.Fixes) > 0:
		label = "Best"
	}
	before(label, a.Answer)
	if a.Cost != "" {
		before("Cost", a.Cost)
	}
	if lines := judgements(run); len(lines) > 0 {
		a.After = append(a.After, point{"Judged", lines})
	}
	after("Sure", strings.Join(a.Sure, "; "))
	after("Unknown", a.Unwatched...)
	return a
}

// appendPoint appends a point unless it has nothing to say.
func appendPoint(list []point, label string, texts []string) []point {
	p := point{Label: label}
	for _, text := range texts {
		if text != "" {
			p.Lines = append(p.Lines, judgement{Text: text})
		}
	}
	if len(p.Lines) > 0 {
		list = append(list, p)
	}
	return list
}

// broke words what broke: the first such scenario with its figures, the others by their verdicts.
// Ranked fixes say it of each.
func broke(run *results.Run, c results.Conclusion) (texts []string) {
	valid := 0
	for i := range run.Scenarios {
		valid += run.Scenarios[i].Valid()
	}
	switch {
	case valid == 0:
		return nil
	case len(c.Broke) == 0:
		return []string{"nothing: every valid trial was clean"}
	}
	texts = append(texts, c.Broke[0].Scenario+": "+strings.Join(c.Broke[0].Words, ", "))
	var others []string
	for _, b := range c.Broke[1:] {
		others = append(others, fmt.Sprintf("%s (%s)", b.Scenario, b.Verdict))
	}
	if len(others) > 0 && len(c.Fixes) == 0 {
		texts = append(texts, "also "+strings.Join(others, ", "))
	}
	return texts
}

// ranks returns the cells of the ranked scenarios: rank, name, how soon it healed, and what that
// broke or took away.
func ranks(c results.Conclusion) [][]string {
	var list [][]string
	for i, f := range c.Fixes {
		rank := fmt.Sprint(i + 1)
		if f.Trials == 0 || f.Healed < f.Trials {
			rank = none
		}
		broken := ""
		if f.Acted && f.Trials > 0 {
			broken = f.BrokenWords()
		}
		if f.GivesUp != "" {
			broken += ", " + f.GivesUp
		}
		list = append(list, []string{rank, f.Scenario, f.HealWords(), broken})
	}
	return list
}

// firstScreen is the number of lines that every terminal shows: the lines to apply are among them
// unless there are more.
const firstScreen = 24

// write writes the answer for a terminal. The commands begin at the left margin, so that a
// here-document can be pasted; their notes are comments of the shell.
func (a answer) write(b *bytes.Buffer, o Options) {
	width := o.width()
	writePoints(b, a.Before, width, o.Color)
	var names, heals int
	list := ranks(a.Conclusion)
	for _, cells := range list {
		names = max(names, runewidth.StringWidth(cells[1]))
		heals = max(heals, runewidth.StringWidth(cells[2]))
	}
	for _, cells := range list {
		first := fmt.Sprintf("%2s  %s  ", cells[0], runewidth.FillRight(cells[1], names))
		text := strings.TrimRight(runewidth.FillRight(cells[2], heals)+"  "+cells[3], " ")
		if runewidth.StringWidth(first+text) > width {
			paragraph(b, first, cells[2]+", "+cells[3], width)
			continue
		}
		b.WriteString(first + text + "\n")
	}
	a.writeSteps(b, width, o.Verbose)
	writePoints(b, a.After, width, o.Color)
	if len(a.Before)+len(a.After) > 0 {
		b.WriteByte('\n')
	}
}

// writeSteps writes the lines to apply. It leaves out a step as a whole: a part of it would do
// something else.
func (a answer) writeSteps(b *bytes.Buffer, width int, all bool) {
	if len(a.Steps) == 0 {
		return
	}
	fmt.Fprintf(b, "Apply    %s:\n", a.Scenario)
	left := firstScreen - bytes.Count(b.Bytes(), []byte{'\n'})
	for _, s := range a.Steps {
		var note bytes.Buffer
		paragraph(&note, "# ", s.Note, width)
		text := strings.ReplaceAll(note.String(), "\n  ", "\n# ") + s.Text + "\n"
		if lines := strings.Count(text, "\n"); all || lines <= left {
			b.WriteString(text)
			left -= lines
		} else {
			fmt.Fprintf(b, "# %s: %d lines, which --verbose shows\n", s.Title, lines)
		}
	}
}

func writePoints(b *bytes.Buffer, points []point, width int, color bool) {
	const indent = 9
	for _, p := range points {
		label := emphasis(p.Label, color) + strings.Repeat(" ", indent-len(p.Label))
		for _, line := range p.Lines {
			var text bytes.Buffer
			paragraph(&text, strings.Repeat(" ", indent), line.Text, width)
			b.WriteString(label + text.String()[indent:])
			label = strings.Repeat(" ", indent)
		}
	}
}

// briefly writes a line for each scenario: what happened, as far as it fits; or all that is known
// where the options ask for it.
func briefly(b *bytes.Buffer, list []row, o Options) {
	width := o.width()
	indent := min(widest(list, func(r row) string { return r.name })+gap, width/3)
	stories := tell(list)
	for i, r := range list {
		lines := stories[i].lines
		if !o.detailed(r.name) {
			lines = []string{r.brief(width - indent)}
		}
		label := r.name
		if runewidth.StringWidth(label)+1 > indent {
			fmt.Fprintln(b, label)
			label = ""
		}
		for _, text := range lines {
			paragraph(b, runewidth.FillRight(label, indent), text, width)
			label = ""
		}
	}
}

// brief returns what happened in the scenario, within width columns where it can.
func (r row) brief(width int) string {
	t, ok := r.typical()
	switch {
	case r.trials == 0:
		return "Not run."
	case !ok:
		return "INVALID: " + r.invalid[0].WhyInvalid()
	}
	text := ""
	for _, part := range results.Brief(&t) {
		longer := part
		if text != "" {
			longer = text + ", " + part
		}
		if text != "" && runewidth.StringWidth(longer) > width {
			break
		}
		text = longer
	}
	return cmp.Or(text, t.Sentence)
}
