package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
)

// TestRefusals gives ctload what it cannot run. Each must end soon, with the right status and a
// message that names the remedy.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct{ name, args, says string }{ // words are separated by |
		{"no command", "rum", `"rum"|run`},
		{"no experiment", "run", "needs an experiment|ctload scenarios list"},
		{"unknown experiment", "run table-ful", "table-full"},
		{"unknown scenario", "run table-full --scenario raw-notrak", "raw-notrack"},
		{"unknown kernel", "run table-full --kernel debian/bookwurm", "debian/bookworm"},
		{"unknown format", "run table-full --format jsn", "json"},
		{"unknown flag", "run table-full --trails 3", "--trails"},
		{"negative trials", "run table-full --trials -1", "--trials|such as 5000"},
		{"unknown accelerator", "run table-full --accelerator hvf", "kvm|tcg"},
		{"missing file", "run ./no-such.yaml", "no-such.yaml"},
		{"missing run", "report /no/such/run", "/no/such/run"},
		{"unknown shipped", "scenarios show tablefull", "table-full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := ctload(t, 2*time.Minute, strings.Fields(tc.args)...)
			if o.status != statusUsage {
				t.Errorf("exit status %d, want %d", o.status, statusUsage)
			}
			for word := range strings.SplitSeq(tc.says, "|") {
				if !strings.Contains(o.stderr, word) {
					t.Errorf("it does not say %q:\n%s", word, o.stderr)
				}
			}
			if strings.Contains(o.stderr, "goroutine ") {
				t.Errorf("it crashed:\n%s", o.stderr)
			}
		})
	}
}

// TestNoQEMU hides the emulator.
func TestNoQEMU(t *testing.T) {
	needsLab(t)
	cmd := command(t, "run", "table-full")
	cmd.Env = append(os.Environ(), "PATH="+t.TempDir())
	o := finish(t, cmd, time.Minute)
	if o.status != statusHost || !strings.Contains(o.stderr, "apt-get install") {
		t.Errorf("exit status %d, want %d and what to install:\n%s", o.status, statusHost, o.stderr)
	}
}

// TestForbiddenNamespaces runs where the kernel forbids further user namespaces.
func TestForbiddenNamespaces(t *testing.T) {
	needsLab(t)
	path := labtest.Ctload(t)
	cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c",
		`echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" run table-full`, path)
	cmd.Dir = t.TempDir()
	o := finish(t, cmd, time.Minute)
	if o.status != statusHost {
		t.Errorf("exit status %d, want %d", o.status, statusHost)
	}
	for _, way := range []string{
		"sudo ctload", "apparmor-profile", "--connect", "max_user_namespaces",
	} {
		if !strings.Contains(o.stderr, way) {
			t.Errorf("it does not name %s:\n%s", way, o.stderr)
		}
	}
}

// TestFullDisk runs with the run folder on a file system of 16 KiB.
func TestFullDisk(t *testing.T) {
	needsLab(t)
	path := labtest.Ctload(t)
	dir := t.TempDir()
	const mounted = `mount -t tmpfs -o size=16k none %[1]s && exec "$0" run %[2]s --out %[1]s/run`
	script := fmt.Sprintf(mounted, dir, experiment(t, fmt.Sprintf(small, 1000)))
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, path)
	cmd.Dir = filepath.Dir(dir)
	cmd.Env = append(os.Environ(), "HOME="+os.Getenv("HOME"))
	o := finish(t, cmd, 3*time.Minute)
	if o.status != statusHost || !strings.Contains(o.stdout+o.stderr, "no space left") {
		t.Errorf("exit status %d, want %d and a word about the space:\n%s\n%s",
			o.status, statusHost, o.stdout, o.stderr)
	}
}
