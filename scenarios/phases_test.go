package scenarios

import "testing"

const phased = `experiment: phased
phases: {fill: 5s, flood: 10s, calm: 1m}
workload:
  - generator: http
    phase: flood
    start: 2s
    concurrency: 5
  - generator: http
    phase: calm
    requests: 10
    duration: 3s
    concurrency: 5
  - generator: hold
    phase: fill
    connections: 5
    duration: 70s
`

func TestPhases(t *testing.T) {
	e, _, err := Parse("phased.yaml", []byte(phased))
	if err != nil {
		t.Fatal(err)
	}
	r := e.Resolve()[0]
	if total := r.Phases.Total(); total != 75e9 {
		t.Errorf("the phases last %s", total)
	}
	for i, want := range []struct{ begins, length Duration }{
		{7e9, 8e9},  // to the end of its phase
		{15e9, 3e9}, // as given
		{0, 70e9},   // held connections outlive the phase
	} {
		if got := r.Begins(r.Workload[i]); got != want.begins {
			t.Errorf("%s begins at %s, want %s", r.Workload[i].Name, got, want.begins)
		}
		if got := r.Workload[i].Length(); got != want.length {
			t.Errorf("%s lasts %s, want %s", r.Workload[i].Name, got, want.length)
		}
	}
}

// TestPhasesAreMerged: a file that extends another changes the length of a phase by its name.
func TestPhasesAreMerged(t *testing.T) {
	p := newProblems()
	base := parse(p, "base.yaml", []byte(phased))
	over := parse(p, "over.yaml", []byte("phases: {flood: 20s, after: 1s}\n"))
	merged := overlayFile(p, base, over)
	var phases Phases
	phases.decodeNode(p, merged.get("phases"))
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	if start, ok := phases.Start("after"); !ok || start != 85e9 {
		t.Errorf("after begins at %s in %v", start, phases)
	}
}
