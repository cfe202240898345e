package scenarios

import (
	"errors"
	"strings"
	"testing"
)

// traps are the experiments that show a mistake of a guide on purpose, with the warning for it.
var traps = map[string]string{
	"chain-limit":          "max is raised but not the hash",
	"log-flood":            "nf_conntrack_count cannot be written",
	"nat-kinds":            "no rule needs connection tracking",
	"production-entrance":  "Accept UNTRACKED in INPUT",
	"invalid-reset":        "notrack in one direction only",
	"not-applied":          "the kernel ignores hashsize=4096",
	"raw-table":            "notrack in one direction only",
	"small-hash":           "max is raised but not the hash",
	"tracking-by-accident": "no rule needs connection tracking",
}

func TestShippedExperimentsLoad(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			e, warnings, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if e.Name != name {
				t.Errorf("the file of %s calls itself %s", name, e.Name)
			}
			if e.Documentation.Group == "" {
				t.Error("the experiment is in no group")
			}
			for _, w := range warnings {
				if want, ok := traps[name]; !ok || !strings.Contains(w.Message, want) {
					t.Errorf("warning: %s\n%s", w, w.Excerpt)
				}
			}
			if _, ok := traps[name]; ok && len(warnings) == 0 {
				t.Error("the trap that the experiment shows gives no warning")
			}
		})
	}
}

func TestTableFull(t *testing.T) {
	e, _, err := Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range e.Resolve() {
		names = append(names, r.Name)
	}
	got := strings.Join(names, " ")
	if got != "baseline raised-max shortened-timeouts raw-notrack" {
		t.Errorf("scenarios: %s", got)
	}
	rules := e.Resolve()[3].DUT.Rules
	if strings.Count(rules, "*filter") != 1 || !strings.Contains(rules, "*raw") ||
		!strings.Contains(rules, "UNTRACKED") {
		t.Errorf("raw-notrack's rules:\n%s", rules)
	}
	raised := e.Resolve()[1].DUT
	if raised.Buckets != 65536 || raised.Memory != 512<<20 || raised.VCPUs != 1 ||
		raised.Kernel != "debian/bookworm" {
		t.Errorf("raised-max: %+v", raised)
	}
}

func TestUnknownNameNamesTheNearest(t *testing.T) {
	_, _, err := Load("tabel-full")
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), `did you mean "table-full"?`) {
		t.Errorf("error: %v", err)
	}
}
