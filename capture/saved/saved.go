// Package saved reads what people save and paste when a connection-tracking table is in trouble:
// listings of the table, sysctls, counters, rules and lines of the kernel's log, of any kernel
// from 2.6 on and any version of conntrack-tools, in one file or many, with prompts, colours,
// quotation marks, wrapped lines and cut ends.
package saved

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// File is one saved text.
type File struct {
	Name string
	Text []byte
}

// Part counts the lines of one file that show one thing.
type Part struct {
	File  string `json:"file"`
	What  string `json:"what"`
	Lines int    `json:"lines"`
	First int    `json:"first"` // number of the first of those lines
}

// Report tells what was recognised in the files.
type Report struct {
	Parts []Part `json:"parts"`
	// Unread are the lines that were not understood, by file.
	Unread []Part `json:"unread,omitempty"`
}

// errNothing tells why texts make no capture.
var errNothing = errors.New("nothing of connection tracking was recognised")

// Read reads saved texts of one host and one moment.
func Read(files ...File) (*capture.Capture, Report, error) {
	r := &reader{
		c:         &capture.Capture{Schema: capture.SchemaVersion, Settings: map[string]string{}},
		summaries: map[string]int64{},
	}
	for _, f := range files {
		r.file(f)
	}
	r.end()
	if len(r.report.Parts) == 0 {
		var names []string
		for _, f := range files {
			names = append(names, f.Name)
		}
		return nil, r.report, fmt.Errorf("%s: %w", strings.Join(names, ", "), errNothing)
	}
	return r.c, r.report, nil
}

// reader gathers a capture from lines.
type reader struct {
	c         *capture.Capture
	report    Report
	name      string // of the file
	at        int    // number of the line
	parts     map[string]*Part
	unread    Part
	summaries map[string]int64

	command command
	numbers []string // keys whose bare numbers the command prints
	pending string   // the text of an entry that has not ended
	list    *listing // of counters, a name and a number a line
	header  []string // of /proc/net/stat/nf_conntrack
	rows    *capture.Counters
	rules   *strings.Builder
	nft     int    // open braces of a listing of nft
	family  string // of the rules
	scopes  []capture.Scope
	lines   int64 // of the table, as wc counted them
	first   float64
	last    float64
}

// listing is a list of counters as conntrack 0.9 wrote them.
type listing struct{ sum map[string]int64 }

func (r *reader) file(f File) {
	r.name, r.parts = f.Name, map[string]*Part{}
	r.unread = Part{File: f.Name, What: "not understood"}
	r.command = command{}
	r.first, r.last = -1, -1
	text, found := withoutSummaries(f.Text)
	for _, s := range found {
		r.summaries[s.of] = max(r.summaries[s.of], s.number)
	}
	for _, l := range clean(text) {
		r.line(l)
	}
	r.flush()
	if r.last > r.first && r.first >= 0 {
		r.c.Log.Seconds = max(r.c.Log.Seconds, r.last-r.first)
	}
	for _, what := range slices.Sorted(maps.Keys(r.parts)) {
		r.report.Parts = append(r.report.Parts, *r.parts[what])
	}
	if r.unread.Lines > 0 {
		r.report.Unread = append(r.report.Unread, r.unread)
	}
}

// saw counts a line that shows something.
func (r *reader) saw(what string) {
	p := r.parts[what]
	if p == nil {
		p = &Part{File: r.name, What: what, First: r.at}
		r.parts[what] = p
	}
	p.Lines++
}

// line takes one line of a file.
func (r *reader) line(l line) {
	r.at = l.number
	s := strings.TrimRight(l.text, " \t")
	if r.rules != nil {
		r.inRules(s)
		return
	}
	trimmed := strings.TrimSpace(s)
	if trimmed == "" {
		return
	}
	if r.pending != "" && r.continues(trimmed) {
		return
	}
	if r.understands(trimmed) || r.understands(restored(trimmed)) {
		return
	}
	if emptyPrompt.MatchString(trimmed) || ignored(trimmed) {
		return
	}
	if r.unread.Lines++; r.unread.First == 0 {
		r.unread.First = l.number
	}
}

// understands takes a line that is a command, or shows something.
func (r *reader) understands(s string) bool {
	if c, ok := commandOf(s); ok {
		r.flush()
		r.begin(c)
		return true
	}
	for _, read := range []func(string) bool{
		r.entry, r.expectation, r.counterRow, r.statRow, r.logLine, r.beginRules, r.setting,
		r.counted, r.bareNumber, r.network, r.sockets, r.slabs, r.listed, r.release,
	} {
		if read(s) {
			return true
		}
	}
	return false
}

// ignored reports whether a line is known and tells nothing that a capture holds.
func ignored(s string) bool {
	for _, begin := range []string{
		"Total:", "TCP:", "Transport", "*\t", "RAW", "UDP\t", "TCP\t", "INET\t", "FRAG\t", "#",
	} {
		if strings.HasPrefix(s, begin) {
			return true
		}
	}
	return false
}

// begin starts the output of a command.
func (r *reader) begin(c command) {
	r.command, r.numbers, r.list, r.header = c, c.counts(), nil, nil
	if c.program(0) == "conntrack" && slices.Contains(c.pipes[0], "-C") {
		r.numbers = []string{kernels.KeyCount}
	}
	if strings.HasPrefix(c.program(0), "dmesg") || c.names("journalctl") || c.names("kern.log") ||
		c.names("/var/log/") {
		r.c.Log.Read = true
	}
}

// entry takes a line of a listing of the table.
func (r *reader) entry(s string) bool {
	if !capture.Begins(s) {
		return false
	}
	r.flush()
	r.pending = s
	if capture.Ends(s) && !endsWithUse(s) {
		r.flush() // nothing is expected after id= and its like
	}
	return true
}

// endsWithUse reports whether use= is the last field, after which some versions write id=.
func endsWithUse(s string) bool {
	fields := strings.Fields(s)
	return strings.HasPrefix(fields[len(fields)-1], "use=")
}

// continues takes a line that goes on with a wrapped entry.
func (r *reader) continues(s string) bool {
	first, _, _ := strings.Cut(s, " ")
	switch {
	case capture.Begins(s), summaries.MatchString(s):
		return false
	case capture.Ends(r.pending):
		if !strings.HasPrefix(first, "id=") {
			return false
		}
	case !strings.Contains(first, "=") && !strings.HasPrefix(first, "["):
		return false
	}
	r.pending += " " + s
	return true
}

// flush ends the entry that may have gone on, and the lists of a command.
func (r *reader) flush() {
	if text := r.pending; text != "" {
		r.pending = ""
		e, err := capture.ParseEntry(text)
		switch {
		case err == nil && capture.Ends(text):
			r.saw("entries of the table")
			r.c.Table.Entries = append(r.c.Table.Entries, e)
			r.scopes = append(r.scopes, r.command.scope())
		default:
			r.c.Table.Cut++
		}
	}
	if r.list != nil {
		r.saw("counters")
		r.c.Counters = append(r.c.Counters,
			capture.Counters{Sum: r.list.sum, CPUs: 1, FirstCPU: true})
		r.list = nil
	}
	if r.rows != nil {
		r.saw("counters")
		r.c.Counters = append(r.c.Counters, *r.rows)
		r.rows = nil
	}
	if r.rules != nil {
		r.endRules()
	}
}

var (
	expectProc   = regexp.MustCompile(`^(\d+|-) l3proto = \d+ proto=\d+ src=`)
	expectListed = regexp.MustCompile(`^\d+ proto=\d+ src=.* mask-src=`)
)

// expectation takes a line of /proc/net/nf_conntrack_expect. Those of conntrack -L expect are the
// same expectations again, and taken where the file was not shown.
func (r *reader) expectation(s string) bool {
	if expectListed.MatchString(s) {
		r.flush()
		r.saw("expectations of conntrack -L expect")
		return true
	}
	if !expectProc.MatchString(s) {
		return false
	}
	r.flush()
	fields := strings.Fields(s)
	x := capture.Expectation{Left: -1}
	if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
		x.Left = n
	}
	for _, f := range fields[1:] {
		switch {
		case strings.HasPrefix(f, "PERMANENT"), strings.HasPrefix(f, "INACTIVE"),
			strings.HasPrefix(f, "USERSPACE"):
			x.Permanent = x.Permanent || strings.Contains(f, "PERMANENT")
			x.Inactive = x.Inactive || strings.Contains(f, "INACTIVE")
		case strings.Contains(f, "/") && !strings.Contains(f, "="):
			x.Helper, x.Class, _ = strings.Cut(f, "/")
		}
	}
	r.saw("expectations")
	r.c.Expectations = append(r.c.Expectations, x)
	return true
}

// settingLine is a line of sysctl -a.
var settingLine = regexp.MustCompile(`^((?:net|kernel|vm|fs)[./][\w./:@-]+)\s*=\s*(.*)$`)

// setting takes a line of sysctl -a.
func (r *reader) setting(s string) bool {
	m := settingLine.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	r.flush()
	r.saw("sysctls")
	r.set(m[1], strings.TrimSpace(m[2]))
	return true
}

// set takes one value of a sysctl.
func (r *reader) set(given, value string) {
	key, _ := kernels.Key(given)
	r.c.Settings[key] = value
	if !isNumber(value) {
		return
	}
	n := number(value)
	switch key {
	case kernels.KeyCount:
		r.setCount(n)
	case kernels.KeyMax:
		r.c.Sizes.Max = &n
	case kernels.KeyBuckets:
		r.c.Sizes.Buckets = &n
	case kernels.Prefix + "expect_max":
		r.c.Sizes.ExpectMax = &n
	}
}

// setCount takes a number of entries: the largest of those that were shown.
func (r *reader) setCount(n int64) {
	if r.c.Sizes.Count == nil || *r.c.Sizes.Count < n {
		r.c.Sizes.Count = &n
	}
}

// end joins what the files showed.
func (r *reader) end() {
	t := &r.c.Table
	if n := r.lines; n > 0 {
		t.Whole = n
	}
	if shown := r.summaries["flow entries"]; shown > 0 && t.Whole == 0 {
		t.Whole = shown
	}
	t.Scope = r.scope()
	if n := int64(len(t.Entries)); t.Scope == capture.Whole && t.Cut == 0 && n > 0 &&
		t.Whole > 2*n {
		// The lines were counted at another moment than that of the listing.
		r.setCount(t.Whole)
		t.Whole = n
	}
	if t.Scope == capture.Whole && t.Whole == 0 && t.Cut == 0 {
		t.Whole = int64(len(t.Entries))
	}
	if t.Scope == capture.Selection {
		t.Whole = 0
		if len(t.States) > 0 {
			t.Whole = t.Stateless
			for _, n := range t.States {
				t.Whole += n
			}
		}
	}
	if len(r.c.Settings) == 0 {
		r.c.Settings = nil
	}
}

// scope returns which part of the table all entries together are.
func (r *reader) scope() capture.Scope {
	t := r.c.Table
	if len(t.Entries) == 0 {
		return capture.Unknown
	}
	if slices.Contains(r.scopes, capture.Selection) {
		return capture.Selection
	}
	shown, living := int64(len(t.Entries)), cmp.Or(t.Whole, r.summaries["flow entries"])
	switch {
	case t.Cut > 0, slices.Contains(r.scopes, capture.Prefix):
		return capture.Prefix
	case living > 0 && shown == living, slices.Contains(r.scopes, capture.Whole):
		return capture.Whole
	case living > shown:
		return capture.Prefix
	}
	return capture.Unknown
}
