// Package spelling finds the word that a mistyped one means.
package spelling

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// fewWords bounds the list that [Hint] shows where no word is near.
const fewWords = 16

// longestWord bounds the compared words: a longer one is no typing error.
const longestWord = 80

// Nearest returns the candidate that a mistyped word most likely means, whatever its case, or ""
// when none is near: at most one edit in three characters, and up to two in words of four
// characters and more.
func Nearest[S ~string](word S, candidates []S) (best S) {
	if word == "" || len(word) > longestWord {
		return ""
	}
	least := max(len(word)/3, min(len(word)/2, 2)) + 1
	lower := strings.ToLower(string(word))
	for _, candidate := range candidates {
		distance := levenshtein.Distance(lower, strings.ToLower(string(candidate)), nil)
		if distance < least {
			best, least = candidate, distance
		}
	}
	return best
}

// Meant returns the end of a message that names the word that was meant; "" without one.
func Meant[S ~string](word S) string {
	if word == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", word)
}

// Hint returns the end of a message about an unknown word: the nearest valid one, or all of them
// where they are few, or nothing.
func Hint[S ~string](word S, candidates []S) string {
	near := Nearest(word, candidates)
	if near != "" || len(candidates) == 0 || len(candidates) > fewWords {
		return Meant(near)
	}
	words := make([]string, len(candidates))
	for i, candidate := range candidates {
		words[i] = string(candidate)
	}
	return "; valid here: " + strings.Join(words, ", ")
}
