package guest

import (
	"context"
	"errors"
	"fmt"
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
	program, err := findProgram("debootstrap")
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
