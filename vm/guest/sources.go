package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is an entry of apt's configured sources, sources.list(5), for binary packages.
type source struct {
	uris, suites, components []string
	signedBy                 string
}

// hostSources reads the sources of this host's apt below dir, usually /etc/apt.
func hostSources(dir string) ([]source, error) {
	files := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var out []source
	for _, file := range files {
		text, err := os.ReadFile(file)
		// An unreadable file may hold a password; apt could not use it either.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file, ".sources") {
			out = append(out, parseDeb822(string(text))...)
		} else {
			out = append(out, parseOneLine(string(text))...)
		}
	}
	return out, nil
}

// parseOneLine reads the one-line format: deb [option=value ...] uri suite [component ...]. It
// skips lines that are malformed or useless here (deb-src, flat archives, discs).
func parseOneLine(text string) (out []source) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.Join(strings.Fields(line), " "), "deb ")
		if !ok {
			continue
		}
		var s source
		if options, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(options, "[") {
			for _, option := range strings.Fields(options[1:]) {
				if key, value, _ := strings.Cut(option, "="); strings.EqualFold(key, "signed-by") {
					s.signedBy = value
				}
			}
			rest = after
		}
		words := strings.Fields(rest)
		if len(words) < 3 {
			continue
		}
		s.uris, s.suites, s.components = words[:1], words[1:2], words[2:]
		if s.useful() {
			out = append(out, s)
		}
	}
	return out
}

// parseDeb822 reads the format of stanzas with fields, as in *.sources.
func parseDeb822(text string) (out []source) {
	for stanza := range stanzas(text) {
		s := source{
			uris:       strings.Fields(stanza["uris"]),
			suites:     strings.Fields(stanza["suites"]),
			components: strings.Fields(stanza["components"]),
			signedBy:   stanza["signed-by"],
		}
		disabled := slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(stanza["enabled"]))
		if !disabled && slices.Contains(strings.Fields(stanza["types"]), "deb") && s.useful() {
			out = append(out, s)
		}
	}
	return out
}

func (s source) useful() bool {
	usable := func(uri string) bool {
		return strings.Contains(uri, ":") && !strings.HasPrefix(uri, "cdrom:") && !strings.ContainsAny(uri, "[]\"")
	}
	return len(s.uris) > 0 && len(s.suites) > 0 && len(s.components) > 0 && !slices.ContainsFunc(s.uris, func(u string) bool { return !usable(u) })
}

// stanzas reads text of Debian's control format, deb822(5): paragraphs of "Field: value", of which
// the lines that begin with a blank continue the value. It yields names of fields in lower case.
func stanzas(text string) func(yield func(map[string]string) bool) {
	return func(yield func(map[string]string) bool) {
		fields, last := map[string]string{}, ""
		for line := range strings.Lines(text + "\n\n") {
			line = strings.TrimRight(line, " \t\r\n")
			switch {
			case strings.HasPrefix(line, "#"):
			case line == "":
				if len(fields) > 0 && !yield(fields) {
					return
				}
				fields, last = map[string]string{}, ""
			case line[0] == ' ' || line[0] == '\t':
				if last != "" {
					fields[last] += "\n" + strings.TrimSpace(line)
				}
			default:
				name, value, ok := strings.Cut(line, ":")
				if last = ""; ok {
					last = strings.ToLower(strings.TrimSpace(name))
					fields[last] = strings.TrimSpace(value)
				}
			}
		}
	}
}
