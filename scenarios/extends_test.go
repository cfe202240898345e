package scenarios

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/kernels"
)

// TestExtends reads a file that changes parts of table-full. The other parts may change with the
// shipped file, and are compared with that file.
func TestExtends(t *testing.T) {
	data, err := os.ReadFile("testdata/extends/extends.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e, warnings, err := Parse("extends.yaml", data)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	base, _, err := Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "mine" || e.Summary != base.Summary || e.Trials != 3 || e.DUT.VCPUs != 2 ||
		e.DUT.Memory != base.DUT.Memory {
		t.Errorf("head: %+v", e)
	}
	if diff := cmp.Diff(base.Documentation, e.Documentation); diff != "" {
		t.Errorf("documentation is not inherited:\n%s", diff)
	}
	scenarios := map[string]Resolved{}
	var names []string
	for _, r := range e.Resolve() {
		scenarios[r.Name] = r
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "baseline raised-max raw-notrack keep-alive" {
		t.Errorf("scenarios: %s", got)
	}
	http := scenarios["baseline"].Workload[0]
	if http.Requests != 20000 || http.Rate != 2000 || http.Concurrency != 0 {
		t.Errorf("a rate does not take the place of the concurrency: %+v", http)
	}
	kept := scenarios["keep-alive"].Workload
	if k := kept[0]; k.Rate != 0 || k.Concurrency != 100 || !k.KeepAlive || k.Requests != 20000 ||
		len(kept) != len(base.Workload) {
		t.Errorf("keep-alive: %+v", kept)
	}
	raised := scenarios["raised-max"].DUT
	loose, _ := raised.Sysctl.Get(kernels.Prefix + "tcp_loose")
	most, _ := raised.Sysctl.Get(kernels.KeyMax)
	if raised.Buckets != 131072 || loose != "0" || most != "262144" {
		t.Errorf("raised-max: %+v", raised)
	}
	if got, want := scenarios["raw-notrack"].DUT.Rules, base.Resolve()[3].DUT.Rules; got != want {
		t.Errorf("rules of raw-notrack:\n%s\nwant\n%s", got, want)
	}
	thresholds := map[string][]string{}
	for _, one := range e.Thresholds {
		thresholds[one.Scenario] = append(thresholds[one.Scenario], one.Expression)
	}
	replaced := cmp.Equal([]string{"conntrack.peak <= 20"}, thresholds["raw-notrack"])
	if !replaced || len(thresholds["raised-max"]) == 0 || len(thresholds["keep-alive"]) != 1 {
		t.Errorf("thresholds: %v", thresholds)
	}
	roundTrip(t, e)
	if err := validate(compiledSchema(t), data); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}

// extended parses a file that extends a shipped experiment; the error is nil where it loads.
func extended(experiment, rest string) (*Experiment, error) {
	e, _, err := Parse("mine.yaml", []byte("experiment: mine\nextends: "+experiment+"\n"+rest))
	return e, err
}

// TestExtends_EmptyValues removes each kind of value that is merged, in each way to write that.
func TestExtends_EmptyValues(t *testing.T) {
	type loaded = *Experiment
	tests := []struct {
		experiment, file string
		left             func(loaded) bool // whether anything of it is left
	}{
		{"table-full", "thresholds: %s\n", func(e loaded) bool { return len(e.Thresholds) > 0 }},
		{
			"table-full", "thresholds: {raised-max: %s, raw-notrack: %s}\n",
			func(e loaded) bool { return len(e.Thresholds) > 0 },
		},
		{
			"table-full", "documentation: %s\n",
			func(e loaded) bool { return e.Documentation.Story != "" },
		},
		{
			"table-full", "documentation: {story: %s}\n",
			func(e loaded) bool {
				return e.Documentation.Story != "" || e.Documentation.Watch == ""
			},
		},
		{
			"emergency-fixes", "dut: %s\n",
			func(e loaded) bool { return e.DUT.Rules != "" || e.DUT.Memory != DefaultMemory },
		},
		{
			"emergency-fixes", "dut: {sysctl: %s}\n",
			func(e loaded) bool { return len(e.DUT.Sysctl) > 0 || e.DUT.Rules == "" },
		},
		{
			"emergency-fixes", "dut: {sysctl: {net.netfilter.nf_conntrack_max: %s}}\n",
			func(e loaded) bool { return len(e.DUT.Sysctl) > 0 },
		},
		{"emergency-fixes", "dut: {rules: %s}\n", func(e loaded) bool { return e.DUT.Rules != "" }},
		{
			"emergency-fixes", "workload: {open: %s}\n",
			func(e loaded) bool { return len(e.Workload) != 2 },
		},
		{
			"emergency-fixes", "steady: %s\n",
			func(e loaded) bool { return len(e.Steady) > 0 || len(e.Resolve()[0].Steady) > 0 },
		},
		{
			"emergency-fixes", "scenarios: {flushed: {actions: %s}}\n",
			func(e loaded) bool { return len(e.Resolve()[4].Actions) > 0 },
		},
		{
			"emergency-fixes", "scenarios: {max-raised: %s}\n",
			func(e loaded) bool { return len(e.Resolve()[1].Actions) > 0 },
		},
		{
			"emergency-fixes", "scenarios: %s\n",
			func(e loaded) bool { return names(e) != "baseline" || len(e.Thresholds) != 2 },
		},
		{
			"hash-resize", "actions: %s\nscenarios:\nthresholds:\n",
			func(e loaded) bool { return len(e.Actions) > 0 },
		},
		{"log-flood", "phases: {lull: %s}\n", func(e loaded) bool { return len(e.Phases) != 2 }},
		{
			"table-full", "scenarios: {raised-max: {sysctl: %s}}\n",
			func(e loaded) bool { return len(e.Resolve()[1].DUT.Sysctl) > 0 },
		},
		{"ipvs-reuse", "dut: {ipvs: %s}\n", func(e loaded) bool { return e.DUT.IPVS != "" }},
	}
	for _, test := range tests {
		for _, empty := range []string{"", "{}", "[]", `""`} {
			inFile := func(key string) bool { return strings.Contains(test.file, key) }
			isText := slices.ContainsFunc([]string{"rules:", "ipvs:", "story:"}, inFile)
			if empty == `""` != isText && empty != "" {
				continue
			}
			file := strings.ReplaceAll(test.file, "%s", empty)
			e, err := extended(test.experiment, file)
			if err != nil {
				t.Errorf("%s: %s%v", test.experiment, file, err)
				continue
			}
			if test.left(e) {
				t.Errorf("%s: %s leaves it as it was", test.experiment, file)
			}
			roundTrip(t, e)
			if empty != "" {
				continue
			}
			whole := "experiment: mine\nextends: " + test.experiment + "\n" + file
			if err := validate(compiledSchema(t), []byte(whole)); err != nil {
				t.Errorf("the schema refuses %s: %v", file, err)
			}
		}
	}
}

// TestExtends_EmptyOverNothing keeps a value that no empty one overrides.
func TestExtends_EmptyOverNothing(t *testing.T) {
	e, err := extended("log-flood", "dut: {sysctl: {net.netfilter.nf_conntrack_tcp_loose: 0}}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range e.Resolve() {
		// count-written gives a setting that the loader leaves out, which removes none.
		if loose, ok := r.DUT.Sysctl.Get(kernels.Prefix + "tcp_loose"); loose != "0" || !ok {
			t.Errorf("%s lacks the setting of the dut: %+v", r.Name, r.DUT.Sysctl)
		}
	}
}

// TestExtends_OmitAndDefineAgain: the scenario of the same name is a new one, without the
// thresholds of the omitted one.
func TestExtends_OmitAndDefineAgain(t *testing.T) {
	e, err := extended("table-full",
		"omit: [raised-max, raised-max]\nscenarios: {raised-max: {buckets: 4096}}\n")
	if err != nil {
		t.Fatal(err)
	}
	r := e.Resolve()[3]
	if r.Name != "raised-max" || r.DUT.Buckets != 4096 || len(r.DUT.Sysctl) > 0 || r.Summary != "" {
		t.Errorf("raised-max: %+v", r)
	}
	for _, threshold := range e.Thresholds {
		if threshold.AppliesTo(r) {
			t.Errorf("inherited: %s", threshold.Expression)
		}
	}
}

// TestExtends_FileOfTheSameName: messages tell positions in the user's file from those in the
// shipped one.
func TestExtends_FileOfTheSameName(t *testing.T) {
	_, _, err := Parse("table-full.yaml",
		[]byte("experiment: mine\nextends: table-full\ndut: {vcpus: 0}\n"))
	want := `table-full.yaml:3:14: vcpus must be 1 to 256
     2 | extends: table-full
>    3 | dut: {vcpus: 0}
       |              ^`
	if err == nil || err.Error() != want {
		t.Errorf("error: %v", err)
	}
}
