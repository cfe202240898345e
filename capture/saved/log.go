package saved

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// suppressions matches the kernel's count of lines that a rate limit kept back: of 2.6.18,
// of 2.6.32 and of today. They count any rate-limited message of that function.
var suppressions = regexp.MustCompile(`(?:(\d+) (?:messages|callbacks) suppressed)`)

// tableFull is the line that a refused packet writes, in every version of the kernel: the message
// begins and ends with it, so that prose that quotes it is none.
var tableFull = regexp.MustCompile(
	`(?:^|kernel: |\] |: )(?:[in][pf]_conntrack: )+table full, dropping packet(?:[^\pL]|$)`)

var (
	uptimeStamp = regexp.MustCompile(`^(?:\S+ +\d+ \S+ \S+ kernel: )?\[ *(\d+\.\d+)\]`)
	syslogStamp = regexp.MustCompile(`^([A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d) `)
	humanStamp  = regexp.MustCompile(`^\[([A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4})\]`)
)

// logLine takes a line of the kernel's log.
func (r *reader) logLine(s string) bool {
	log := &r.c.Log
	switch m := suppressions.FindStringSubmatch(s); {
	case tableFull.MatchString(s):
		log.TableFull++
	case strings.Contains(s, "conntrack: expectation table full"):
		log.ExpectFull++
	case strings.Contains(s, "neighbor table overflow") ||
		strings.Contains(s, "Neighbour table overflow"):
		log.Neighbour++
	case strings.Contains(s, ": dropping packet") && strings.Contains(s, "nf_ct_"):
		log.HelperDrops++
	case m != nil:
		log.Suppressed += number(m[1])
		log.Suppressions++
	case uptimeStamp.MatchString(s), humanStamp.MatchString(s):
		// another line of the log
	default:
		return false
	}
	r.flush()
	r.saw("lines of the kernel's log")
	log.Read = true
	if at := logTime(s); at >= 0 {
		if r.first < 0 {
			r.first = at
		}
		r.last = max(r.last, at)
	}
	return true
}

// logTime returns the time of a line in seconds, from any zero; -1: it has none.
func logTime(s string) float64 {
	if m := uptimeStamp.FindStringSubmatch(s); m != nil {
		at, err := strconv.ParseFloat(m[1], 64)
		if err == nil {
			return at
		}
	}
	if m := syslogStamp.FindStringSubmatch(s); m != nil {
		if at, err := time.Parse("Jan _2 15:04:05", m[1]); err == nil {
			return float64(at.YearDay()*86400 + at.Hour()*3600 + at.Minute()*60 + at.Second())
		}
	}
	if m := humanStamp.FindStringSubmatch(s); m != nil {
		if at, err := time.Parse("Mon Jan _2 15:04:05 2006", m[1]); err == nil {
			return float64(at.Unix())
		}
	}
	return -1
}
