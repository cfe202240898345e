package guest

import (
	"fmt"
	"slices"

	"github.com/agext/levenshtein"
)

// didYouMean suggests the known word that is nearest to an unknown one, if any is near.
func didYouMean(word string, known []string) string {
	best, distance := "", 1+len(word)/2
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.Distance(word, candidate, nil); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
