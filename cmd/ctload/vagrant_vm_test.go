package main

import (
	"os"
	"testing"
	"time"
)

// TestVagrant runs a shipped experiment on a distribution as its makers ship it, from a box that is built
// here: the verdicts are those of the embedded lab, the second trial on a restored machine, and nothing is left.
func TestVagrant(t *testing.T) {
	needsLab(t)
	temporary := t.TempDir()
	mark := "CTLOAD_TEST=" + temporary
	cmd := command(t, "run", "table-full", "--driver", "vagrant", "--box", "build", "--scenario", "baseline,raw-notrack", "--format", "json")
	cmd.Env = append(os.Environ(), mark, "TMPDIR="+temporary)
	o := finish(t, cmd, 20*time.Minute)
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	run := decode(t, o.stdout)
	if run.Environment.Driver != "vagrant" {
		t.Errorf("the driver is %q", run.Environment.Driver)
	}
	for i, want := range []string{"table-full", "clean"} {
		trial := run.Scenarios[i].Trials[0]
		if string(trial.Verdict) != want {
			t.Errorf("%s: %s, want %s: %s", run.Scenarios[i].Name, trial.Verdict, want, trial.Sentence)
		}
		// Not the agent's own connection: its card is in a namespace of its own.
		if want == "clean" && trial.Conntrack.Peak > 10 {
			t.Errorf("%d entries in a table that tracks nothing", trial.Conntrack.Peak)
		}
	}
	if !poll(2*time.Second, func() bool { return len(marked(t, mark)) == 0 }) {
		t.Errorf("processes are left: %v", marked(t, mark))
	}
	for name := range files(t, temporary) {
		if name != temporary {
			t.Errorf("file %s is left", name)
		}
	}
}
