package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVagrantRefusals checks the message and the exit status for each mistake with boxes.
func TestVagrantRefusals(t *testing.T) {
	kernel := experiment(t, "experiment: x\nscenarios: {a: {kernel: debian/trixie}}\n"+
		"workload: [{generator: http, requests: 10, concurrency: 2}]\n")
	for _, tc := range []struct {
		args   []string
		status int
		words  string
	}{
		{[]string{"run", "table-full", "--box", "x"}, statusUsage, "goes with --driver vagrant"},
		{[]string{"run", kernel, "--driver", "vagrant"}, statusUsage, "debian/trixie"},
		{[]string{"run", "table-full", "--driver", "vagarnt"}, statusUsage,
			`did you mean "vagrant"`},
	} {
		o := ctload(t, time.Minute, tc.args...)
		if o.status != tc.status || !strings.Contains(o.stderr, tc.words) {
			t.Errorf("%q: exit status %d, want %d, with %q in:\n%s",
				tc.args, o.status, tc.status, tc.words, o.stderr)
		}
	}
	o := ctload(t, time.Minute, "run", "table-full", "--driver", "vagrant",
		"--box", filepath.Join(t.TempDir(), "no.box"))
	if o.status != statusUsage || !strings.Contains(o.stderr, "--box build") {
		t.Errorf("a box that is not there: exit status %d\n%s", o.status, o.stderr)
	}
}
