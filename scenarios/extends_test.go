package scenarios

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExtends reads a file that changes parts of table-full. What it does not change may change
// with the shipped file, and is compared with that.
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
	if e.Name != "mine" || e.Summary != base.Summary || e.Trials != 3 || e.DUT.VCPUs != 2 || e.DUT.Memory != base.DUT.Memory {
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
	if kept[0].Rate != 0 || kept[0].Concurrency != 100 || !kept[0].KeepAlive || kept[0].Requests != 20000 || len(kept) != len(base.Workload) {
		t.Errorf("keep-alive: %+v", kept)
	}
	raised := scenarios["raised-max"].DUT
	loose, _ := raised.Sysctl.Get(keyLoose)
	most, _ := raised.Sysctl.Get(keyMax)
	if raised.Buckets != 131072 || loose != "0" || most != "262144" {
		t.Errorf("raised-max: %+v", raised)
	}
	if got, want := scenarios["raw-notrack"].DUT.Rules, base.Resolve()[3].DUT.Rules; got != want {
		t.Errorf("rules of raw-notrack:\n%s\nwant\n%s", got, want)
	}
	thresholds := map[string][]string{}
	for _, threshold := range e.Thresholds {
		thresholds[threshold.Scenario] = append(thresholds[threshold.Scenario], threshold.Expression)
	}
	if diff := cmp.Diff([]string{"conntrack.peak <= 20"}, thresholds["raw-notrack"]); diff != "" || len(thresholds["raised-max"]) == 0 || len(thresholds["keep-alive"]) != 1 {
		t.Errorf("thresholds: %v", thresholds)
	}
	roundTrip(t, e)
	if err := validate(compiledSchema(t), data); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}
