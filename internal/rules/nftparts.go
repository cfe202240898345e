package rules

import (
	"slices"
	"strings"
)

// piece is a part of a script of nft that can be a command of its own.
type piece struct {
	from, to int // in the source
	line     int
	commands []string // for it; none: the source is left out as it is
}

// NFTParts divides a script into scripts that nft loads one after the other, for what is too large
// for one transaction: the first makes tables, chains and sets, each further one adds at most n
// rules and elements. Every command stands in the line that it has in the whole. NFTParts returns
// the whole alone where the order of its commands matters.
func NFTParts(text string, n int) []string {
	s := readNFT(text)
	if s.ordered || len(s.pieces) == 0 {
		return []string{text}
	}
	var frame strings.Builder
	at := 0
	for _, p := range s.pieces {
		frame.WriteString(text[at:p.from])
		frame.WriteString(strings.Repeat(newline, strings.Count(text[p.from:p.to], newline)))
		at = p.to
	}
	frame.WriteString(text[at:])
	parts := []string{frame.String()}
	var part strings.Builder
	var held, line int
	put := func(at int, command string) {
		if line > 0 && at <= line {
			part.WriteString("; ")
		}
		for line = max(line, 1); line < at; line++ {
			part.WriteString(newline)
		}
		part.WriteString(command)
		line += strings.Count(command, newline)
	}
	begin := func() {
		part.Reset()
		held, line = 0, 0
		for _, d := range s.definitions {
			put(d.line, text[d.from:d.to])
		}
	}
	begin()
	for _, p := range s.pieces {
		for _, command := range p.commands {
			if held == n {
				parts = append(parts, part.String()+newline)
				begin()
			}
			put(p.line, command)
			held++
		}
	}
	return append(parts, part.String()+newline)
}

// piece notes what the last statement is, which began as the given kind of command of a table.
func (s *script) piece(command string, t *Table, name string) {
	prefix := command + " " + t.ID() + " " + name + " "
	source := s.source[s.from:s.to]
	s.pieces = append(s.pieces, piece{s.from, s.to, s.at.Line, []string{prefix + source}})
}

// elementPieces notes the elements of the last statement, one by one, in the place of what the
// source has from an offset on.
func (s *script) elementPieces(t *Table, name string, from int, line int, words []token) {
	begin := slices.IndexFunc(words, func(w token) bool { return w.Text == "{" && !w.Quoted })
	if begin < 0 {
		return
	}
	prefix := "add element " + t.ID() + " " + name + " { "
	p := piece{from: from, to: s.to, line: line}
	var first, last *token
	for i := begin + 1; i < len(words); i++ {
		w := words[i]
		ends := !w.Quoted && (w.Text == "," || w.Text == "}")
		switch {
		case w.from < s.from || w.to > s.to || !w.Quoted && w.Text == "{":
			return // of a variable, or a set in a set
		case ends && first != nil:
			element := s.source[first.from:last.to]
			p.commands = append(p.commands, prefix+element+" }")
			first = nil
		case ends:
		case first == nil:
			first, last = &words[i], &words[i]
		default:
			last = &words[i]
		}
	}
	s.pieces = append(s.pieces, p)
}
