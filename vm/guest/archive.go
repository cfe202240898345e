package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// archive is a place that serves a suite: address, suite and component of each of its parts.
type archive []string

// sources returns the archive as lines of a sources.list(5), signed by a key of any of the files.
func (a archive) sources(keyrings []string) string {
	var b strings.Builder
	for _, part := range a {
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s target=Packages] %s\n", runtime.GOARCH,
			strings.Join(keyrings, ","), part)
	}
	return b.String()
}

// archives lists the archives that may have a suite, the best first: the user's mirror; those of
// the host's apt, with their security fixes; the default of the packaged debootstrap.
func (d *distro) archives(ctx context.Context, suite string, host []source) ([]archive, error) {
	lines := func(uri string, suites ...string) (out archive) {
		for _, s := range suites {
			out = append(out, fmt.Sprintf("%s %s main", uri, s))
		}
		return out
	}
	if mirror := os.Getenv(d.env); mirror != "" {
		if strings.ContainsAny(mirror, " \t\r\n[]") || !strings.Contains(mirror, ":") {
			return nil, fmt.Errorf("%s=%q is no address of a mirror", d.env, mirror)
		}
		return []archive{lines(mirror, d.suites(suite)...)}, nil
	}
	var out []archive
	main, security := d.configured(host)
	for _, uri := range main {
		a := lines(uri, d.suites(suite)...)
		for _, uri := range security {
			if !strings.Contains(suite, "-") && !slices.Contains(d.rolling, suite) {
				a = append(a, lines(uri, suite+d.security)...)
			}
		}
		out = append(out, a)
	}
	mirror, err := d.defaultMirror(ctx, suite)
	if err != nil && len(out) == 0 {
		return nil, err
	}
	if err == nil && !slices.Contains(main, mirror) {
		out = append(out, lines(mirror, d.suites(suite)...))
	}
	return out, nil
}

// trusted writes the keys that ctload brings into a file, and returns the path of that and of the
// host's keyrings.
func (d *distro) trusted(file string) ([]string, error) {
	files := []string{file}
	for _, keyring := range d.keyrings {
		if _, err := os.Stat(keyring); err == nil {
			files = append(files, keyring)
		}
	}
	return files, os.WriteFile(file, []byte(d.keys), 0o644)
}

// configured selects the distribution's archives from the host's sources, by their keyring or else
// by their address: others may have a suite of the same name. apt's check fails on a wrong guess.
func (d *distro) configured(host []source) (main, security []string) {
	for _, s := range host {
		signed := strings.Contains(s.signedBy, d.id+"-archive-")
		if !slices.Contains(s.components, "main") || s.signedBy != "" && !signed {
			continue
		}
		for _, uri := range s.uris {
			uri = strings.TrimSuffix(uri, "/")
			for _, suite := range s.suites {
				list := &main
				if d.fixes(suite) {
					list = &security
				}
				ours := d.owns(suite) && (signed || strings.Contains(uri, d.id))
				if ours && !slices.Contains(*list, uri) {
					*list = append(*list, uri)
				}
			}
		}
	}
	return main, security
}

// defaultMirror returns the mirror that the packaged debootstrap uses by default.
func (d *distro) defaultMirror(ctx context.Context, suite string) (string, error) {
	script := filepath.Join("/usr/share/debootstrap/scripts", d.script)
	program, err := FindProgram("debootstrap")
	if err == nil {
		_, err = os.Stat(script)
	}
	if err != nil {
		return "", Missing(Install+"debootstrap", "no mirror of %s is set on this host, and "+
			"debootstrap, which knows the default, is missing: %w", d.id, err)
	}
	mirror, err := scriptMirror(ctx, script, suite)
	if err != nil {
		return "", err
	}
	if mirror == "" {
		text, err := os.ReadFile(program)
		if err != nil {
			return "", err
		}
		mirror = programMirror(string(text))
	}
	if !strings.Contains(mirror, d.id) {
		return "", Missing("set "+d.env+" to the address of one",
			"no mirror of %s is configured on this host, and its debootstrap names none", d.id)
	}
	return mirror, nil
}

// scriptMirror asks a script of debootstrap for its mirror. The scripts are shell scripts that
// branch on machine and suite and call default_mirror with the address, so a shell runs them.
func scriptMirror(ctx context.Context, script, suite string) (string, error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	const ask = `exec 3>&1
default_mirror() { echo "$1" >&3; exit 0; }
for ignored in mirror_style download_style finddebs_style variants keyring warning info; do
	eval "$ignored() { :; }"
done
doing_variant() { return 1; }; error() { exit 0; }
. "$0" >/dev/null 2>&1
exit 0`
	cmd := exec.CommandContext(ctx, "sh", "-c", ask, script)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "ARCH=" + runtime.GOARCH, "SUITE=" + suite,
		"DEBOOTSTRAP_DIR=" + filepath.Dir(filepath.Dir(script))}
	out, err := cmd.Output()
	// A shell that stops at an unknown command has found no mirror until then.
	_, stopped := errors.AsType[*exec.ExitError](err)
	if err != nil && (!stopped || ctx.Err() != nil) {
		return "", fmt.Errorf("ask %s for its default mirror: %w", script, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// programMirror finds the assignment DEF_MIRROR="..." in debootstrap itself.
func programMirror(text string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "DEF_MIRROR="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}

// source is an entry of apt's configured sources, sources.list(5), for binary packages.
type source struct {
	uris, suites, components []string
	signedBy                 string
}

// hostSources reads the sources of this host's apt below dir, usually /etc/apt.
func hostSources(dir string) (out []source, err error) {
	parse := parseOneLine
	for _, pattern := range []string{"", ".d/*.list", ".d/*.sources"} {
		if pattern == ".d/*.sources" {
			parse = parseDeb822
		}
		files, err := filepath.Glob(filepath.Join(dir, "sources.list"+pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			// An unreadable file may hold a password; apt could not use it either.
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
			out = append(out, parse(string(text))...)
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
	for _, stanza := range stanzas(text) {
		s := source{
			uris:       strings.Fields(stanza["uris"]),
			suites:     strings.Fields(stanza["suites"]),
			components: strings.Fields(stanza["components"]),
			signedBy:   stanza["signed-by"],
		}
		off := disabled.MatchString(stanza["enabled"])
		if !off && slices.Contains(strings.Fields(stanza["types"]), "deb") && s.useful() {
			out = append(out, s)
		}
	}
	return out
}

// disabled matches the values that apt takes for no.
var disabled = regexp.MustCompile(`(?i)^(no|false|without|off|disable|0)$`)

// useless matches addresses that lead to no archive over a network: of folders and discs.
var useless = regexp.MustCompile(`^[^:]*$|^cdrom:|[]["]`)

func (s source) useful() bool {
	return len(s.uris) > 0 && len(s.suites) > 0 && len(s.components) > 0 &&
		!slices.ContainsFunc(s.uris, useless.MatchString)
}

var (
	comment = regexp.MustCompile(`(?m)^#.*\n`)
	field   = regexp.MustCompile(`(?m)^([^\s:]+)[ \t]*:(.*(?:\n[ \t].*\S.*)*)$`)
	blank   = regexp.MustCompile(`\n[ \t\r]*\n`)
)

// stanzas reads text of Debian's control format, deb822(5): paragraphs of "Field: value", where a
// line that begins with a blank continues the value. It returns names of fields in lower case.
func stanzas(text string) (list []map[string]string) {
	for _, paragraph := range blank.Split(comment.ReplaceAllString(text, ""), -1) {
		fields := map[string]string{}
		for _, match := range field.FindAllStringSubmatch(paragraph, -1) {
			fields[strings.ToLower(match[1])] = strings.TrimSpace(match[2])
		}
		if len(fields) > 0 {
			list = append(list, fields)
		}
	}
	return list
}
