package reports

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctload/ctload/results"
)

// documentWidth limits the columns of text of a document's table; the rest of its columns are
// folded away, since a pull request is no wider.
const documentWidth = 110

// renderMarkdown writes the run for a pull request or a wiki: its conclusion, the table and a line
// for each scenario, then folded away what each trial saw (GitHub's flavour, which GitLab reads as
// well).
func renderMarkdown(b *bytes.Buffer, run *results.Run, _ Options) error {
	list := rows(run)
	fmt.Fprintf(b, "## %s\n\n", markdownText(run.Experiment))
	if run.Summary != "" {
		fmt.Fprintf(b, "%s\n\n", markdownText(run.Summary))
	}
	if text := partial(run); text != "" {
		fmt.Fprintf(b, "**INVALID**: %s.\n\n", markdownText(text))
	}
	word, kind := outcomeOf(run)
	mark := map[string]string{
		outcomeInvalid: "⚠️ ", outcomeFailed: failedMark, outcomePassed: "✅ ",
	}[kind]
	fmt.Fprintf(b, "**%s%s**\n\n", mark, word)
	markdownAnswer(b, answerOf(run))
	markdownTable(b, list)
	for _, r := range list {
		fmt.Fprintf(b, "- **%s**: %s\n", markdownText(r.name), markdownText(r.brief(documentWidth)))
	}
	fmt.Fprintf(b, "\n%s\n", markdownText(environment(run)))
	for _, text := range run.Warnings {
		fmt.Fprintf(b, "\n> **Warning:** %s\n", markdownText(text))
	}
	b.WriteString("\n<details><summary>What each scenario saw</summary>\n\n")
	for _, t := range tell(list) {
		text := markdownText(strings.Join(t.lines, " "))
		fmt.Fprintf(b, "- **%s**: %s\n", markdownText(t.name), text)
	}
	comparison, err := differencesOf(run, list)
	if err != nil {
		return err
	}
	if len(comparison.lines) > 0 {
		fmt.Fprintf(b, "\n%s\n\n", markdownText(comparison.title))
		markdownGrid(b, comparison.lines)
	}
	for _, text := range append(footnotes(run, list), comparison.notes...) {
		fmt.Fprintf(b, "\n> %s\n", markdownText(text))
	}
	b.WriteString("\n</details>\n")
	return nil
}

// failedMark marks a reason to fail.
const failedMark = "❌ "

// markdownAnswer writes the conclusion: a list, and the lines to apply as a block of code.
func markdownAnswer(b *bytes.Buffer, a answer) {
	points := func(list []point) {
		for _, p := range list {
			for _, line := range p.Lines {
				mark := ""
				if line.Bad {
					mark = failedMark
				}
				fmt.Fprintf(b, "- **%s**: %s%s\n", p.Label, mark, markdownText(line.Text))
			}
		}
	}
	points(a.Before)
	if list := ranks(a.Conclusion); len(list) > 0 {
		lines := make([]line, len(list[0]))
		for i, head := range []string{"rank", "scenario", "healed", "broke"} {
			lines[i].column = column{name: head, left: i > 0}
			for _, cells := range list {
				lines[i].cells = append(lines[i].cells, cells[i])
			}
		}
		b.WriteString("\n")
		markdownGrid(b, lines)
	}
	for _, s := range a.Steps {
		fmt.Fprintf(b, "\n**Apply %s**: %s. %s\n\n", markdownText(a.Scenario),
			markdownText(s.Title), markdownText(s.Note))
		fence := "```"
		for strings.Contains(s.Text, fence) {
			fence += "`"
		}
		fmt.Fprintf(b, "%ssh\n%s\n%s\n\n", fence, s.Text, fence)
	}
	points(a.After)
	b.WriteString("\n")
}

func markdownTable(b *bytes.Buffer, list []row) {
	if len(list) == 0 {
		b.WriteString("No scenario was run.\n\n")
		return
	}
	main, all := withParts(list, true), withParts(list, false)
	lines, dropped := choose(layout(main), main, documentWidth)
	lines, _ = prune(lines, main)
	markdownGrid(b, lines)
	if dropped > 0 || len(all) > len(main) {
		lines, _ := choose(layout(all), all, math.MaxInt)
		lines, _ = prune(lines, all)
		fmt.Fprintf(b, "<details><summary>All figures: %s</summary>\n\n",
			moreWords(dropped, len(all)-len(main)))
		markdownGrid(b, lines)
		b.WriteString("</details>\n\n")
	}
}

// markdownGrid writes columns as a table.
func markdownGrid(b *bytes.Buffer, lines []line) {
	write := func(cell func(line) string) {
		b.WriteString("|")
		for _, l := range lines {
			fmt.Fprintf(b, " %s |", cell(l))
		}
		b.WriteString("\n")
	}
	write(func(l line) string { return markdownText(l.name) })
	write(func(l line) string {
		if l.left {
			return ":---"
		}
		return "---:"
	})
	for i := range lines[0].cells {
		write(func(l line) string { return markdownText(l.cells[i]) })
	}
	b.WriteString("\n")
}

// markdownText keeps text from being taken for markup: it escapes the special characters of
// Markdown and HTML, and joins several lines into one. An underscore within a word is none of them.
func markdownText(s string) string {
	s = markdownEscapes.Replace(strings.TrimSpace(s))
	var b strings.Builder
	before := ' '
	for i, r := range s {
		after, _ := utf8.DecodeRuneInString(s[i+1:]) // of an underscore, which is a byte
		if r == '_' && !(inWord(before) && inWord(after)) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		before = r
	}
	return b.String()
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, `|`, `\|`, `*`, `\*`, "`", "\\`", `[`, `\[`, `]`, `\]`, `#`, `\#`,
	`~`, `\~`, `<`, `&lt;`, `>`, `&gt;`, `&`, `&amp;`, "\r", "", "\n", "<br>",
)
