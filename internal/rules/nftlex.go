package rules

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// newline is the text of the token that ends a line; no word has it.
const newline = "\n"

// placeholder matches what an experiment leaves to the lab: it stands for a word.
var placeholder = regexp.MustCompile(`^\$\{[^}\n]*\}`)

// lex takes a script of nft apart: words, strings, and signs by themselves. Comments are left out,
// and a backslash at the end of a line joins the next one to it.
func (s *Ruleset) lex(text string) []token {
	var tokens []token
	line, start := 1, 0 // the line that is read and where it begins
	at := func(i int) Position { return Position{line, i - start + 1} }
	add := func(from, to int) {
		tokens = append(tokens, token{Text: text[from:to], At: at(from), from: from, to: to})
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\n':
			add(i, i+1)
			i++
			line, start = line+1, i
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n':
			i += 2
			line, start = line+1, i
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"':
			end := len(text)
			if length := strings.IndexAny(text[i+1:], "\"\n"); length >= 0 {
				end = i + 1 + length
			}
			after := end
			if end < len(text) && text[end] == '"' {
				after++
			} else {
				s.problem(at(i), "a double quote is not closed")
			}
			tokens = append(tokens, token{text[i+1 : end], at(i), true, i, after})
			i = after
		case placeholder.MatchString(text[i:]):
			end := i + placeholder.FindStringIndex(text[i:])[1]
			for end < len(text) && wordByte(text[end]) {
				end++
			}
			add(i, end)
			i = end
		case wordByte(c):
			end := i
			for end < len(text) && (wordByte(text[end]) || text[end] == ':') {
				end++
			}
			end = wordEnd(text, i, end)
			add(i, end)
			i = end
		case c == ' ' || c == '\t' || c == '\r':
			i++
		default:
			end := i + 1
			if slices.Contains(twoSigns, text[i:min(i+2, len(text))]) {
				end++
			}
			add(i, end)
			i = end
		}
	}
	s.checkTyped(tokens)
	return tokens
}

var twoSigns = []string{"!=", "==", "<=", ">=", "<<", ">>"}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 ||
		strings.IndexByte("_.-/@$*", c) >= 0
}

// wordEnd ends a word before its first colon, but for addresses and ranges of them, which have
// colons.
func wordEnd(text string, from, to int) int {
	word := strings.TrimRight(text[from:to], ":")
	colon := strings.IndexByte(word, ':')
	if colon < 0 {
		return from + len(word)
	}
	first, last, ranged := strings.Cut(word, "-")
	if isAddress(first) && (!ranged || isAddress(last)) {
		return from + len(word)
	}
	return from + colon
}

func isAddress(word string) bool {
	_, notPrefix := netip.ParsePrefix(word)
	_, notIP := netip.ParseAddr(word)
	_, notMAC := net.ParseMAC(word)
	return notPrefix == nil || notIP == nil || notMAC == nil
}
