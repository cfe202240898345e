package scenarios

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// nearest is the candidate that a mistyped word most likely means, "" when none is near: at most
// one edit in three characters, two at least for words of four characters and more.
func nearest(word string, candidates []string) string {
	if word == "" || len(word) > 80 {
		return ""
	}
	best, bestDistance := "", max(len(word)/3, min(len(word)/2, 2))+1
	for _, candidate := range candidates {
		distance := levenshtein.Distance(strings.ToLower(word), strings.ToLower(candidate), nil)
		if distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// meant is the tail of a message about an unknown word: the nearest valid one, or all of them
// when they are few, or nothing.
func meant(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(candidates) > 0 && len(candidates) <= 12 {
		return "; valid here: " + strings.Join(candidates, ", ")
	}
	return ""
}

// quote shows a word from a file in a message, cut so that the message stays readable.
func quote(word string) string {
	const most = 60
	if runes := []rune(word); len(runes) > most {
		word = string(runes[:most]) + "..."
	}
	return fmt.Sprintf("%q", word)
}
