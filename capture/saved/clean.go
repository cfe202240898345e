package saved

import (
	"bytes"
	"regexp"
	"strings"
)

// escapes are the control sequences of a terminal (ECMA-48): colours, cleared lines, titles.
var escapes = regexp.MustCompile(
	`\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]`)

// summaries matches the line that conntrack(8) writes to stderr after a listing. Where both streams
// went to one file it stands anywhere, even in the middle of an entry.
var summaries = regexp.MustCompile(
	`conntrack v\S+ \(conntrack-tools\): (\d+) (flow entries|expectations) have been ` +
		`(?:shown|deleted)\.\n?`)

// clean returns the lines of a saved text without what terminals, mailers and pages added, each
// with its number in the file: control sequences, carriage returns, no-break spaces, marks of
// quotation.
func clean(text []byte) []line {
	text = escapes.ReplaceAll(text, nil)
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(text, []byte("\r"), nil)
	text = bytes.ReplaceAll(text, []byte("\u00a0"), []byte(" "))
	raw := strings.Split(string(text), "\n")
	quoted, filled := 0, 0
	for _, s := range raw {
		if strings.TrimSpace(s) != "" {
			filled++
			if strings.HasPrefix(s, ">") {
				quoted++
			}
		}
	}
	var list []line
	for i, s := range raw {
		if quoted*2 > filled {
			s = strings.TrimPrefix(strings.TrimPrefix(s, ">"), " ")
		}
		list = append(list, line{number: i + 1, text: s})
	}
	return list
}

// line is one line of a file.
type line struct {
	number int
	text   string
}

// withoutSummaries returns text without the summaries of conntrack(8), and what they say.
func withoutSummaries(text []byte) ([]byte, []summary) {
	var found []summary
	for _, m := range summaries.FindAllSubmatch(text, -1) {
		found = append(found, summary{number: number(string(m[1])), of: string(m[2])})
	}
	return summaries.ReplaceAll(text, nil), found
}

// summary holds the number of entries or expectations that conntrack(8) has shown.
type summary struct {
	number int64
	of     string
}
