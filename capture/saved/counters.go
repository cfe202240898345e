package saved

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture"
)

var cpuRow = regexp.MustCompile(`^cpu=(\d+)\s+\w+=\d+`)

// counterRow takes one CPU's line of conntrack -S. CPU 0 begins a reading.
func (r *reader) counterRow(s string) bool {
	m := cpuRow.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	if m[1] == "0" || r.rows == nil {
		r.flush()
		r.rows = &capture.Counters{Sum: map[string]int64{}}
		if len(r.c.Counters) > 0 {
			r.rows.Seconds = slept(r.command.text)
		}
	}
	r.rows.CPUs++
	for _, f := range strings.Fields(s)[1:] {
		if name, value, ok := strings.Cut(f, "="); ok {
			r.rows.Sum[name] += number(value)
		}
	}
	return true
}

var sleeps = regexp.MustCompile(`\bsleep\s+(\d+)`)

// slept returns how many seconds a command line sleeps; 0: it does not.
func slept(text string) float64 {
	if m := sleeps.FindStringSubmatch(text); m != nil {
		return float64(number(m[1]))
	}
	return 0
}

var hexRow = regexp.MustCompile(`^[0-9a-f]{8}(\s+[0-9a-f]{8}){8,}$`)

// statRow takes the header or one CPU's line of /proc/net/stat/nf_conntrack. Its number of entries
// is the table's, repeated on each line.
func (r *reader) statRow(s string) bool {
	fields := strings.Fields(s)
	if len(fields) > 8 && fields[0] == "entries" {
		r.flush()
		r.header = fields
		r.rows = &capture.Counters{Sum: map[string]int64{}}
		return true
	}
	if r.header == nil || !hexRow.MatchString(s) {
		return false
	}
	if r.rows == nil {
		return false
	}
	r.rows.CPUs++
	for i, f := range fields[:min(len(fields), len(r.header))] {
		value, err := strconv.ParseInt(f, 16, 64)
		if err != nil {
			continue
		}
		if r.header[i] == "entries" {
			r.setCount(value)
			continue
		}
		r.rows.Sum[r.header[i]] += value
	}
	return true
}

// counterNames begin a list of counters as conntrack 0.9 and 1.0 wrote it: one CPU's.
var counterNames = strings.Fields(`entries searched found new invalid ignore delete delete_list
	insert insert_failed drop early_drop icmp_error expect_new expect_create expect_delete
	search_restart clash_resolve chaintoolong clashres chainlength`)

// listed takes a counter of such a list.
func (r *reader) listed(s string) bool {
	fields := strings.Fields(s)
	if len(fields) != 2 || !slices.Contains(counterNames, fields[0]) || !isNumber(fields[1]) {
		return false
	}
	if fields[0] == "entries" {
		r.flush()
		r.list = &listing{sum: map[string]int64{}}
		r.setCount(number(fields[1]))
		return true
	}
	if r.list == nil {
		return false
	}
	r.list.sum[fields[0]] += number(fields[1])
	return true
}
