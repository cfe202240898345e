package reports

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ctload/ctload/results"
)

// markdownWidth limits the columns of text of a summary's table; the rest of its columns
// are folded away, since a pull request is no wider.
const markdownWidth = 110

// renderMarkdown writes the run for a pull request or a wiki: whether it passed, the table, and the
// text beneath it (GitHub's flavour, which GitLab reads as well).
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
	const failed = "❌ "
	mark := map[string]string{
		outcomeInvalid: "⚠️ ", outcomeFailed: failed, outcomePassed: "✅ ",
	}[kind]
	fmt.Fprintf(b, "**%s%s**\n\n", mark, word)
	for _, line := range judgements(run) {
		mark := ""
		if line.Bad {
			mark = failed
		}
		fmt.Fprintf(b, "- %s%s\n", mark, markdownText(line.Text))
	}
	b.WriteString("\n")
	markdownTable(b, list)
	comparison, err := differencesOf(run, list)
	if err != nil {
		return err
	}
	if len(comparison.lines) > 0 {
		fmt.Fprintf(b, "%s\n\n", markdownText(comparison.title))
		markdownGrid(b, comparison.lines)
	}
	for _, t := range tell(list) {
		text := markdownText(strings.Join(t.lines, " "))
		fmt.Fprintf(b, "- **%s**: %s\n", markdownText(t.name), text)
	}
	fmt.Fprintf(b, "\n%s\n", markdownText(environment(run)))
	for _, text := range run.Warnings {
		fmt.Fprintf(b, "\n> **Warning:** %s\n", markdownText(text))
	}
	for _, text := range append(footnotes(run, list), comparison.notes...) {
		fmt.Fprintf(b, "\n> %s\n", markdownText(text))
	}
	return nil
}

func markdownTable(b *bytes.Buffer, list []row) {
	if len(list) == 0 {
		b.WriteString("No scenario was run.\n\n")
		return
	}
	list = withParts(list)
	all := layout(list)
	lines, dropped := fit(all, markdownWidth)
	lines, _ = prune(lines, list)
	markdownGrid(b, lines)
	if len(dropped) > 0 {
		b.WriteString("<details><summary>All figures</summary>\n\n")
		all, _ = prune(all, list)
		markdownGrid(b, all)
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
// Markdown and HTML, and joins several lines into one.
func markdownText(s string) string {
	return markdownEscapes.Replace(strings.TrimSpace(s))
}

var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, `|`, `\|`, `*`, `\*`, `_`, `\_`, "`", "\\`", `[`, `\[`, `]`, `\]`, `#`, `\#`,
	`~`, `\~`, `<`, `&lt;`, `>`, `&gt;`, `&`, `&amp;`, "\r", "", "\n", "<br>",
)
