package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// archive is a place that serves a suite: lines of a sources.list(5).
type archive []string

// archives lists the archives that may have a suite of the distribution, the best first: the mirror
// that the user names; those that this host's apt is configured with, with their security fixes;
// the default one of the packaged debootstrap.
func (d *distribution) archives(ctx context.Context, suite string, host []source) ([]archive, error) {
	keyring, err := d.keyring()
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("[arch=%s signed-by=%s target=Packages]", runtime.GOARCH, keyring)
	lines := func(uri string, suites ...string) (out archive) {
		for _, s := range suites {
			out = append(out, fmt.Sprintf("deb %s %s %s main", options, uri, s))
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
		if d.security != "" && !strings.Contains(suite, "-") && !slices.Contains(d.rolling, suite) {
			for _, uri := range security {
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

func (d *distribution) keyring() (string, error) {
	for _, keyring := range d.keyrings {
		if _, err := os.Stat(keyring); err == nil {
			return keyring, nil
		}
	}
	return "", missingPackages("the keys that sign the kernels of "+d.id+" are not installed"+d.keyringNote, nil, d.keyringPackage)
}

// configured selects the distribution's archives from the host's sources. Other archives may have
// packages for a suite of the same name: configured recognises the distribution's by their keyring,
// or without one by their address; apt's check fails on a wrong guess.
func (d *distribution) configured(host []source) (main, security []string) {
	for _, s := range host {
		signed := strings.Contains(s.signedBy, d.id+"-archive-")
		if !slices.Contains(s.components, "main") || s.signedBy != "" && !signed {
			continue
		}
		for _, uri := range s.uris {
			uri = strings.TrimSuffix(uri, "/")
			if !signed && !strings.Contains(uri, d.id) {
				continue
			}
			for _, suite := range s.suites {
				if !d.owns(suite) {
					continue
				}
				list := &main
				if d.security != "" && (strings.HasSuffix(suite, d.security) || strings.HasSuffix(suite, "/updates")) {
					list = &security
				}
				if !slices.Contains(*list, uri) {
					*list = append(*list, uri)
				}
			}
		}
	}
	return main, security
}

// defaultMirror returns the mirror that the packaged debootstrap uses by default.
func (d *distribution) defaultMirror(ctx context.Context, suite string) (string, error) {
	script := filepath.Join("/usr/share/debootstrap/scripts", d.script)
	program, err := FindProgram("debootstrap")
	if err == nil {
		_, err = os.Stat(script)
	}
	if err != nil {
		return "", missingPackages("no mirror of "+d.id+" is configured on this host, and debootstrap, which knows the default one, is not installed",
			err, "debootstrap", d.keyringPackage)
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
		return "", &MissingError{
			What: "no mirror of " + d.id + " is configured on this host, and its debootstrap names none",
			Fix:  "set " + d.env + " to the address of one",
		}
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
mirror_style() { :; }; download_style() { :; }; finddebs_style() { :; }; variants() { :; }; keyring() { :; }
doing_variant() { return 1; }; error() { exit 0; }; warning() { :; }; info() { :; }
. "$0" >/dev/null 2>&1
exit 0`
	cmd := exec.CommandContext(ctx, "sh", "-c", ask, script)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "ARCH=" + runtime.GOARCH, "SUITE=" + suite, "DEBOOTSTRAP_DIR=" + filepath.Dir(filepath.Dir(script))}
	out, err := cmd.Output()
	// A shell that stops at an unknown command has found no mirror until then.
	if _, stopped := errors.AsType[*exec.ExitError](err); err != nil && (!stopped || ctx.Err() != nil) {
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
	useless := func(uri string) bool {
		return !strings.Contains(uri, ":") || strings.HasPrefix(uri, "cdrom:") || strings.ContainsAny(uri, "[]\"")
	}
	return len(s.uris) > 0 && len(s.suites) > 0 && len(s.components) > 0 && !slices.ContainsFunc(s.uris, useless)
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
