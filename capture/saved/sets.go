package saved

import "strings"

// Sets reads the numbers of entries from what ipset list prints, with or without the entries, by
// the names of the sets.
func Sets(text string) map[string]int64 {
	sets := map[string]int64{}
	name := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case key == "Name":
			name = value
		case key == "Number of entries" && name != "" && isNumber(value):
			sets[name] = number(value)
		}
	}
	return sets
}
