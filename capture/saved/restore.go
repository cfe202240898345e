package saved

import (
	"regexp"
	"strings"
)

// What translating programs and editors of write-ups do to outputs: capitals, and blanks that come
// or go around dots, underscores, equal signs and options.
var (
	procPath   = regexp.MustCompile(`(?i)/proc/(?:net|sys)/[\w./]*`)
	gluedPath  = regexp.MustCompile(`^(\d+)(/proc/)`)
	gluedWC    = regexp.MustCompile(`(?i)\bwc\s*-\s*l\s*(/proc/)`)
	gluedCat   = regexp.MustCompile(`(?i)\bcat\s*(/proc/)`)
	mangledKey = regexp.MustCompile(
		`(?i)^net\s*\.\s*(?:ipv4|netfilter|nf\s*_\s*conntrack_max)[\w\s.]*=`)
	mangledLog   = regexp.MustCompile(`(?i)[in][pf]_conntrack: table full, dropping packet`)
	mangledEntry = regexp.MustCompile(`(?i)^(?:tcp|udp|icmp) +\d+ +\d+ .*\bsrc = `)
	mangledState = regexp.MustCompile(`^tcp +\d+ +\d+ [a-z_0-9]+ |\[[a-z_]+\]`)
	aroundEqual  = regexp.MustCompile(`\s*=\s*`)
)

// restored returns a line of an output as the program wrote it, where a write-up has changed its
// capitals and blanks.
func restored(s string) string {
	switch {
	case mangledKey.MatchString(s):
		key, value, _ := strings.Cut(s, "=")
		return strings.ToLower(strings.Join(strings.Fields(key), "")) + " = " +
			strings.TrimSpace(value)
	case mangledEntry.MatchString(s):
		s = aroundEqual.ReplaceAllString(strings.ToLower(s), "=")
		return mangledState.ReplaceAllStringFunc(s, func(words string) string {
			if protocol, rest, ok := strings.Cut(words, " "); ok {
				return protocol + " " + strings.ToUpper(rest)
			}
			return strings.ToUpper(words)
		})
	}
	s = mangledLog.ReplaceAllStringFunc(s, strings.ToLower)
	s = procPath.ReplaceAllStringFunc(s, strings.ToLower)
	s = gluedPath.ReplaceAllString(s, "$1 $2")
	return gluedCat.ReplaceAllString(gluedWC.ReplaceAllString(s, "wc -l $1"), "cat $1")
}
