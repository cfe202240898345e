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
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		says   []string
	}{
		{"no command", []string{"rum"}, statusUsage, []string{`"rum"`, "run"}},
		{"no experiment", []string{"run"}, statusUsage, []string{"needs an experiment", "ctload scenarios list"}},
		{"unknown experiment", []string{"run", "table-ful"}, statusUsage, []string{"table-full"}},
		{"unknown scenario", []string{"run", "table-full", "--scenario", "raw-notrak"}, statusUsage, []string{"raw-notrack"}},
		{"unknown kernel", []string{"run", "table-full", "--kernel", "debian/bookwurm"}, statusUsage, []string{"debian/bookworm"}},
		{"unknown format", []string{"run", "table-full", "--format", "jsn"}, statusUsage, []string{"json"}},
		{"unknown flag", []string{"run", "table-full", "--trails", "3"}, statusUsage, []string{"--trails"}},
		{"negative trials", []string{"run", "table-full", "--trials", "-1"}, statusUsage, []string{"--trials", "such as 5000"}},
		{"unknown accelerator", []string{"run", "table-full", "--accelerator", "hvf"}, statusUsage, []string{"kvm", "tcg"}},
		{"missing file", []string{"run", "./no-such.yaml"}, statusUsage, []string{"no-such.yaml"}},
		{"missing run", []string{"report", "/no/such/run"}, statusUsage, []string{"/no/such/run"}},
		{"unknown shipped", []string{"scenarios", "show", "tablefull"}, statusUsage, []string{"table-full"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := ctload(t, 20*time.Second, tc.args...)
			if o.status != tc.status {
				t.Errorf("exit status %d, want %d", o.status, tc.status)
			}
			for _, word := range tc.says {
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
	for _, way := range []string{"sudo ctload", "apparmor-profile", "--connect", "max_user_namespaces"} {
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
	script := fmt.Sprintf(`mount -t tmpfs -o size=16k none %[1]s && exec "$0" run %[2]s --out %[1]s/run`,
		dir, experiment(t, fmt.Sprintf(small, 1000)))
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, path)
	cmd.Dir = filepath.Dir(dir)
	cmd.Env = append(os.Environ(), "HOME="+os.Getenv("HOME"))
	o := finish(t, cmd, 3*time.Minute)
	if o.status != statusHost || !strings.Contains(o.stdout+o.stderr, "no space left") {
		t.Errorf("exit status %d, want %d and a word about the space:\n%s\n%s", o.status, statusHost, o.stdout, o.stderr)
	}
}
