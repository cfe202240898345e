package results

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Asked is a list of the experiment language as a run was made with it: the entries of a workload,
// or actions.
type Asked []Settings

// Settings are the keys of an entry of a workload, or of an action, as an experiment writes them:
// without keys at their default. docs/language.md has the keys, and ctload scenarios schema their
// types.
type Settings map[string]any

// UnmarshalJSON reads a list, or the text of one that runs before schema 3 have.
func (a *Asked) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		return json.Unmarshal(data, (*[]Settings)(a))
	}
	*a = nil
	var old []Settings
	switch {
	case text == "":
		return nil
	case json.Unmarshal([]byte(text), &old) != nil:
		*a = Asked{{"text": text}}
		return nil
	}
	for _, s := range old {
		named := Settings{}
		for key, value := range s {
			if word := wordOf(value); !slices.Contains(zeroWords, word) {
				named[languageKey(key)] = value
			}
		}
		*a = append(*a, named)
	}
	return nil
}

// zeroWords are the values of keys at their default in runs before schema 3, which have all keys.
var zeroWords = []string{
	"null", "", "0", "false", "[]", "{}", "0s", "0B", "0/s", "0%", "0bit/s",
}

// languageKey returns the key of the language for the name of its field in Go: at-once for AtOnce.
func languageKey(field string) string {
	if field == "Kind" {
		return "action"
	}
	var b strings.Builder
	for i, r := range field {
		if i > 0 && r >= 'A' && r <= 'Z' && field[i-1] >= 'a' && field[i-1] <= 'z' {
			b.WriteByte('-')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

// wordOf returns a value as a text: a string itself, anything else as JSON.
func wordOf(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	text, _ := json.Marshal(value) // it came from JSON, or from the language
	return string(text)
}

// word returns the value of a key as a text; "" without one.
func (s Settings) word(key string) string {
	if value, ok := s[key]; ok {
		return wordOf(value)
	}
	return ""
}

// number returns the value of a key as a whole number; 0 without one.
func (s Settings) number(key string) int {
	n, _ := strconv.Atoi(s.word(key))
	return n
}

// Differences words the settings in which two lists differ: what names the lists, one an element,
// and a and b whose they are.
func (a Asked) Differences(
	b Asked, what, one string, both func(what, a, b string) string,
) []string {
	if len(a) != len(b) {
		entries := func(list Asked) string { return Entries(int64(len(list))) }
		return []string{both(what, entries(a), entries(b))}
	}
	var list []string
	for i := range a {
		all := maps.Clone(a[i])
		if all == nil {
			all = Settings{}
		}
		maps.Copy(all, b[i])
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if x, y := a[i].word(name), b[i].word(name); x != y {
				setting := fmt.Sprintf("%s of %s %d of the %s", name, one, i+1, what)
				list = append(list, both(setting, x, y))
			}
		}
	}
	return list
}
