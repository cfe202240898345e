package scenarios

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// Found is a shipped experiment that contains every word of a search.
type Found struct {
	Experiment string
	Group      Group
	Lines      []FoundLine // the fewest that hold all words, best first
	score      int
}

// FoundLine is a line of an experiment's file that contains words of a search.
type FoundLine struct {
	Line  int    // from 1
	Where string // what the line belongs to, such as "story" or "scenario baseline"
	Text  string // without its indentation
}

// Search finds words in the files of the shipped experiments: names, summaries, stories, settings,
// rules, and comments, which quote the lines of write-ups. Every word must occur; case does not
// count, and an old name of a setting, a module or a target also means its current name. The
// experiments come best first; none without words.
func Search(text string) []Found {
	words := searchWords(text)
	var all []Found
	for _, p := range pages() {
		if found, ok := searchIn(p, words); ok {
			all = append(all, found)
		}
	}
	slices.SortStableFunc(all, func(a, b Found) int { return cmp.Compare(b.score, a.score) })
	return all
}

// Suggestions returns alternatives after a search that found nothing: for each word that no
// experiment has the nearest one of the library, "" without one; and the experiments with most of
// the words, at most three.
func Suggestions(text string) (words map[string]string, experiments []string) {
	has := map[string]int{} // how many words an experiment has
	wanted := searchWords(text)
	words = map[string]string{}
	for _, w := range wanted {
		words[w.text] = ""
	}
	for _, p := range pages() {
		for _, w := range wanted {
			if slices.ContainsFunc(p.lines, func(l pageLine) bool { return w.value(l) > 0 }) {
				delete(words, w.text)
				has[p.name]++
			}
		}
	}
	for w := range words {
		// Shorter words, and numbers, are near to anything.
		if len(w) > 4 && strings.ContainsFunc(w, unicode.IsLetter) {
			words[w] = spelling.Nearest(w, vocabulary())
		}
	}
	experiments = slices.Sorted(maps.Keys(has))
	slices.SortStableFunc(experiments, func(a, b string) int { return has[b] - has[a] })
	return words, experiments[:min(len(experiments), 3)]
}

type searchWord struct {
	text    string // in lower case
	current string // its current name in lower case; "" where that is the same
}

// kernelTime matches the time that dmesg writes before a line.
var kernelTime = regexp.MustCompile(`\[ *\d+\.\d+\]`)

// searchWords splits a text, which may be a line of a log or of a write-up.
func searchWords(text string) []searchWord {
	var words []searchWord
	for _, field := range strings.Fields(kernelTime.ReplaceAllString(text, " ")) {
		field = strings.Trim(field, `.,:;!?"'()[]`)
		if field == "" {
			continue
		}
		w := searchWord{text: strings.ToLower(field)}
		if current := currentWord(field); !strings.EqualFold(current, field) {
			w.current = strings.ToLower(current)
		}
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// currentWord returns the current name of a setting, with or without its value, a module or a
// target.
func currentWord(word string) string {
	for old, current := range kernels.RenamedModules {
		if strings.EqualFold(word, old) {
			return current
		}
	}
	if strings.EqualFold(word, "notrack") {
		return "--notrack"
	}
	key, _ := kernels.Key(word)
	if key == kernels.KeyBuckets {
		return "buckets:" // a key of the language
	}
	return key
}

// value returns the score of a line for a word: 0 where the line lacks the word, twice as much for
// a whole word, and half as much for the current name.
func (w searchWord) value(l pageLine) int {
	return max(2*occurrence(l.lower, w.text), occurrence(l.lower, w.current)) * l.weight
}

// occurrence returns 0 where a text lacks a word, 1 where the word is a part of others, else 2.
func occurrence(text, word string) int {
	best := 0
	for at := 0; word != ""; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			break
		}
		begin, end := at+i, at+i+len(word)
		if !isWordAt(text, begin-1) && !isWordAt(text, end) {
			return 2
		}
		best, at = 1, end
	}
	return best
}

func isWordAt(text string, at int) bool {
	return at >= 0 && at < len(text) && isWordRune(rune(text[at]))
}

func isWordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

func searchIn(p page, words []searchWord) (Found, bool) {
	found := Found{Experiment: p.name, Group: p.group}
	missing := slices.Clone(words)
	for len(missing) > 0 {
		best, most, worth := -1, 0, 0
		for i, l := range p.lines {
			n, sum := 0, 0
			for _, w := range missing {
				if value := w.value(l); value > 0 {
					n, sum = n+1, sum+value
				}
			}
			if n > most || n == most && sum > worth {
				best, most, worth = i, n, sum
			}
		}
		if best < 0 {
			return found, false
		}
		line := p.lines[best]
		found.Lines = append(found.Lines, line.FoundLine)
		missing = slices.DeleteFunc(missing, func(w searchWord) bool { return w.value(line) > 0 })
		found.score += worth
	}
	// Adjacent words score more: they were probably meant as a phrase.
	if len(found.Lines) > 0 {
		found.score /= len(found.Lines)
	}
	return found, len(words) > 0
}

type page struct {
	name  string
	group Group
	lines []pageLine
}

type pageLine struct {
	FoundLine
	lower  string
	weight int
}

var pages = sync.OnceValue(func() []page {
	var all []page
	for _, name := range Names() {
		all = append(all, pageOf(name))
	}
	return all
})

// vocabulary is every word of the library, in lower case.
var vocabulary = sync.OnceValue(func() []string {
	var words []string
	between := func(r rune) bool { return !isWordRune(r) && r != '-' }
	for _, p := range pages() {
		for _, l := range p.lines {
			words = append(words, strings.FieldsFunc(l.lower, between)...)
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
})

func pageOf(name string) page {
	data, err := Shipped(name)
	if err != nil {
		panic(err) // the name is one of Names
	}
	p := newProblems()
	root := parse(p, name, data)
	if root == nil {
		panic(p.err()) // a test loads all of them
	}
	source := p.sources[name]
	paths := make([][]string, len(source)+1) // of each line, from 1
	markLines(root, nil, paths)
	for line := len(source) - 1; line > 0; line-- {
		if paths[line] == nil && strings.HasPrefix(strings.TrimSpace(source[line-1]), "#") {
			paths[line] = paths[line+1] // a comment is about what follows
		}
	}
	found := page{name: name}
	if group := root.get("documentation").get("group"); group != nil {
		found.group = Group(group.text)
	}
	var path []string
	for i, text := range source {
		if paths[i+1] != nil {
			path = paths[i+1]
		}
		where, weight := place(path)
		text = strings.TrimSpace(text)
		if where == "name" && strings.HasPrefix(text, "#") {
			where, weight = "comment", 40 // at the head of the file
		}
		line := FoundLine{i + 1, where, text}
		found.lines = append(found.lines, pageLine{line, strings.ToLower(text), weight})
	}
	return found
}

// markLines records for each line the path of keys of the first value that begins in it.
func markLines(n *node, path []string, paths [][]string) {
	mark := func(at Position, path []string) {
		if at.Line > 0 && at.Line < len(paths) && paths[at.Line] == nil {
			paths[at.Line] = path
		}
	}
	for i := range strings.Count(n.text, "\n") {
		mark(n.lineAt(i), path)
	}
	for _, e := range n.entries {
		mark(e.at, extend(path, e.key))
		markLines(e.value, extend(path, e.key), paths)
	}
	for _, item := range n.items {
		mark(item.at, path)
		markLines(item, path, paths)
	}
}

// place names a path for readers, and returns the weight of a word there: how much it tells about
// the subject of the experiment.
func place(path []string) (where string, weight int) {
	if len(path) == 0 {
		return "head", 30
	}
	switch path[0] {
	case "experiment":
		return "name", 100
	case "summary":
		return "summary", 60
	case "documentation":
		if weights := map[string]int{"story": 40, "sources": 25}; len(path) > 1 {
			return path[1], max(weights[path[1]], 15)
		}
	case "thresholds":
		return "thresholds", 10
	case "scenarios":
		if len(path) > 1 {
			return "scenario " + path[1], 45
		}
	}
	return path[0], 30
}
