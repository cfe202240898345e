package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// This file reads what web pages and word processors make of rules, and what guides write in place
// of them.

// keyboard has the characters of typeset text with those that tools understand in their place.
var keyboard = strings.NewReplacer("\u201c", `"`, "\u201d", `"`, "\u201e", `"`, "\u2018", "'",
	"\u2019", "'", "\u2013", "-", "\u2014", "-", "\u2212", "-", "\u00a0", " ")

// Typed returns a word as a keyboard writes it: typographic quotes, dashes and spaces become those
// that tools understand.
func Typed(word string) string {
	if first, size := utf8.DecodeRuneInString(word); strings.ContainsRune("\u2013\u2014", first) {
		name := strings.TrimLeft(word, "\u2013\u2014")
		if utf8.RuneCountInString(name) > 1 && (name[0] < '0' || name[0] > '9') {
			return "--" + keyboard.Replace(name) // an option, whose two hyphens became a dash
		}
		return "-" + keyboard.Replace(word[size:])
	}
	return keyboard.Replace(word)
}

// checkTyped reports the first word of each line with typeset characters outside of double quotes.
func (s *Ruleset) checkTyped(words []token) {
	line := 0
	for _, w := range words {
		if typed := Typed(w.Text); typed != w.Text && !w.Quoted && w.At.Line != line {
			line = w.At.Line
			s.problem(w.At, "%q has a dash, quotes or a space of typeset text, which the tools do "+
				"not understand; write %s", w.Text, typed)
		}
	}
}

// commandForm matches a command line of iptables up to its options.
var commandForm = regexp.MustCompile(`^(?:sudo\s+)?(?:/\S*/)?ip6?tables(?:-nft|-legacy)?\s+(-.*)$`)

// asSaved says how iptables-save writes a command line; "" for another text.
func asSaved(text string) string {
	m := commandForm.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	words, table := strings.Fields(m[1]), "filter"
	if at := slices.Index(words, "-t"); at >= 0 && at+1 < len(words) {
		table = words[at+1]
		words = slices.Delete(words, at, at+2)
	}
	return fmt.Sprintf("%q between *%s and COMMIT (ctload import takes command lines)",
		strings.Join(words, " "), table)
}
