package scenarios

import "fmt"

// quote shows a word from a file in a message, cut so that the message stays readable.
func quote(word string) string {
	const most = 60
	if runes := []rune(word); len(runes) > most {
		word = string(runes[:most]) + "..."
	}
	return fmt.Sprintf("%q", word)
}
