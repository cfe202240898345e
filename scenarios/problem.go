package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in an experiment file. Lines and columns count from 1, columns in characters;
// Line 0 means that no place is known.
type Position struct {
	File         string
	Line, Column int
}

// String returns "file:line:column", or the file alone where no line is known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one fault, or oddity, of an experiment.
type Problem struct {
	Position
	Message string
	// Excerpt is the line meant with the one before it and a mark under the column; empty where no
	// place is known.
	Excerpt string
}

// String returns "file:line:column: message".
func (p Problem) String() string {
	if place := p.Position.String(); place != "" {
		return place + ": " + p.Message
	}
	return p.Message
}

// Warning is a problem that does not keep the experiment from running: an old name, or a setting
// that will not do what its author expects.
type Warning = Problem

// InvalidError says why an experiment, or a choice made from it, cannot be used. The command ends
// with exit status 2 on it.
type InvalidError struct {
	Problems []Problem
	// Err is the cause where it is not the text of the experiment, such as a file that cannot be
	// read.
	Err error
}

// shownProblems bounds the text of an error; the rest is in Problems.
const shownProblems = 20

// Error lists the problems, each followed by its excerpt.
func (e *InvalidError) Error() string {
	var lines []string
	for i, p := range e.Problems {
		if i == shownProblems {
			lines = append(lines, fmt.Sprintf("(and %d more)", len(e.Problems)-i))
			break
		}
		if lines = append(lines, p.String()); p.Excerpt != "" {
			lines = append(lines, p.Excerpt)
		}
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the cause, if there is one beside the text of the experiment.
func (e *InvalidError) Unwrap() error { return e.Err }

// invalidf returns an InvalidError about something that has no place in a file.
func invalidf(cause error, format string, args ...any) *InvalidError {
	return &InvalidError{Problems: []Problem{{Message: fmt.Sprintf(format, args...)}}, Err: cause}
}

// problems collects errors and warnings while a file is read, each only once: a scenario inherits
// the mistakes of the dut, which are reported where they were made.
type problems struct {
	files    *files
	sources  map[string][]string // lines of each file
	seen     map[Problem]bool
	wrong    map[Position]bool
	errors   []Problem
	warnings []Problem
	// inherited is the experiment that the file extends, nil without one.
	inherited *inheritance
}

type inheritance struct {
	file string   // as in its positions
	name string   // of the experiment
	at   Position // where the file names it
	tree *node    // of the shipped file
}

// own moves a problem of the shipped experiment, which the user cannot edit, to the line that
// extends it, and names the key to override.
func (p *problems) own(at Position, message string) (Position, string) {
	from := p.inherited
	if from == nil || at.File != from.file {
		return at, message
	}
	path := pathTo(from.tree, at)
	if len(path) == 0 {
		return from.at, fmt.Sprintf("%s conflicts with this file: %s", from.name, message)
	}
	key, omit := strings.Join(path, "."), ""
	if len(path) > 1 && path[0] == "scenarios" {
		omit = fmt.Sprintf("; omit: [%s] leaves the scenario out", path[1])
	}
	return from.at, fmt.Sprintf("%s of %s conflicts with this file: %s; set it here, "+
		"or give it an empty value to remove it%s", key, from.name, message, omit)
}

// pathTo returns the path of keys, and of names of entries and actions, to the value at a position;
// empty without one.
func pathTo(n *node, at Position) []string {
	for _, e := range n.entries {
		if e.at == at || e.value.at == at || slices.Contains(e.value.lines, at) {
			return []string{e.key}
		}
		if rest := pathTo(e.value, at); len(rest) > 0 {
			return append([]string{e.key}, rest...)
		}
		if slices.ContainsFunc(e.value.items, func(item *node) bool { return item.at == at }) {
			return []string{e.key}
		}
	}
	for i, item := range n.items {
		if rest := pathTo(item, at); len(rest) > 0 {
			return append([]string{itemNames(n)[i]}, rest...)
		}
	}
	return nil
}

func newProblems() *problems {
	return &problems{
		files:   &files{sealed: true},
		sources: map[string][]string{}, seen: map[Problem]bool{}, wrong: map[Position]bool{},
	}
}

// maxProblems bounds the collected problems: a hostile file could hold a million, more than a user
// reads.
const maxProblems = 500

func (p *problems) errorf(at Position, format string, args ...any) {
	p.wrong[at] = true
	at, message := p.own(at, fmt.Sprintf(format, args...))
	p.errors = p.add(p.errors, at, message)
}

func (p *problems) refuse(wrong bool, at Position, format string, args ...any) {
	if wrong {
		p.errorf(at, format, args...)
	}
}

// require reports a place that does not hold what it should, unless it has a problem already.
func (p *problems) require(holds bool, at Position, format string, args ...any) {
	p.refuse(!holds && !p.failed(at), at, format, args...)
}

// failed reports whether a place already has a problem, so that its consequences need no report.
func (p *problems) failed(at Position) bool { return p.wrong[at] }

func (p *problems) warnf(at Position, format string, args ...any) {
	p.warnings = p.add(p.warnings, at, fmt.Sprintf(format, args...))
}

func (p *problems) add(list []Problem, at Position, message string) []Problem {
	if len(list) >= maxProblems {
		return list
	}
	problem := Problem{Position: at, Message: message}
	if p.seen[problem] {
		return list
	}
	p.seen[problem] = true
	problem.Excerpt = excerpt(p.sources[at.File], at)
	return append(list, problem)
}

func (p *problems) err() error {
	if len(p.errors) == 0 {
		return nil
	}
	return &InvalidError{Problems: sorted(p.errors)}
}

func sorted(list []Problem) []Problem {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
	return list
}

// excerpt shows the line at a position below the one before it. It cuts long lines around the
// column, so that a message stays readable whatever the file holds.
func excerpt(lines []string, at Position) string {
	if at.Line < 1 || at.Line > len(lines) {
		return ""
	}
	var b strings.Builder
	if at.Line > 1 {
		text, _ := window(lines[at.Line-2], 1)
		fmt.Fprintf(&b, "  %4d | %s\n", at.Line-1, text)
	}
	text, column := window(lines[at.Line-1], at.Column)
	blanks := strings.Repeat(" ", max(column-1, 0))
	fmt.Fprintf(&b, "> %4d | %s\n       | %s^", at.Line, text, blanks)
	return b.String()
}

// window cuts a line to the part around a column and returns the column within that part. A
// character that a terminal would not show as one cell becomes one blank.
func window(line string, column int) (string, int) {
	const width = 100
	runes := []rune(strings.ToValidUTF8(line, "?"))
	for i, r := range runes {
		if r < ' ' || r == 0x7f {
			runes[i] = ' '
		}
	}
	start := 0
	if column > width {
		start = min(column-width/2, len(runes))
	}
	end := min(start+width, len(runes))
	return strings.TrimRight(string(runes[start:end]), " "), column - start
}

// quote shows a word from a file in a message, cut so that the message stays readable.
func quote(word string) string {
	const most = 60
	if runes := []rune(word); len(runes) > most {
		word = string(runes[:most]) + "..."
	}
	return fmt.Sprintf("%q", word)
}
