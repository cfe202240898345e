package results

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// TestCodes_Documented holds docs/reading.md to the table of the codes, and that table to the codes
// that exist.
func TestCodes_Documented(t *testing.T) {
	page, err := os.ReadFile("../docs/reading.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, k := range kinds {
		mark := ""
		switch {
		case k.host:
			mark = " *"
		case k.either:
			mark = " (*)"
		}
		row := fmt.Sprintf("(?m)^\\| `%s`%s \\| .+ \\| %s \\|$", regexp.QuoteMeta(string(code)),
			regexp.QuoteMeta(mark), regexp.QuoteMeta(k.cure))
		if !regexp.MustCompile(row).Match(page) {
			t.Errorf("docs/reading.md has no row %s", row)
		}
	}
	source, err := os.ReadFile("validity.go")
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile(`Code\w+ +(Code )?= (generatorLimit \+ )?"([a-z-]+)"`)
	all := constant.FindAllStringSubmatch(string(source), -1)
	if len(all) < 20 {
		t.Errorf("only %d codes were found", len(all))
	}
	for _, match := range all {
		code := Code(match[3])
		if match[2] != "" {
			code = GeneratorLimit(match[3])
		}
		if _, known := kinds[code]; !known {
			t.Errorf("the table has no %s", code)
		}
	}
}

// TestSpoilt checks that each reason that Validate gives for a busy host asks for another try, and
// none beside any other reason.
func TestSpoilt(t *testing.T) {
	busy := Trial{Clock: &Clock{ErrorMillis: 40}, Conntrack: Conntrack{Samples: 9, LongestGap: 3}}
	reasons := Validate(&busy, Evidence{
		Limits: []Reason{{CodePacing, "70 slots were given up"}},
		Steal:  0.2, LostCPU: 0.3, Interval: 0.1,
	})
	if len(reasons) != 5 {
		t.Fatalf("a host without time gives the reasons %v, want 5", reasons)
	}
	lost := []Reason{{CodeOverload, "the DUT never received 9 of 10 frames"}}
	for _, tc := range []struct {
		name    string
		reasons []Reason
		want    bool
	}{
		{"valid", nil, false},
		{"every reason", reasons, true},
		{"one", reasons[1:2], true},
		{"more than the links carry", lost, false},
		{"more than any CPU sends", []Reason{{GeneratorLimit("rate"), "1 %"}, reasons[0]}, false},
		{"a stall that lost most frames", append(lost, reasons[2]), true},
		{"another beside it", append([]Reason{{CodeConsole, "an oops"}}, reasons...), false},
		{"another", []Reason{{CodeNoLoad, "no load was offered"}}, false},
	} {
		trial := Trial{Entries: failing("requests", 1, 0)}
		trial.Invalidate(tc.reasons...)
		if Judge(&trial); trial.Spoilt() != tc.want {
			t.Errorf("%s: spoilt %v, want %v", tc.name, trial.Spoilt(), tc.want)
		}
	}
}

// TestWhyInvalid words reasons with their codes, and each cure once.
func TestWhyInvalid(t *testing.T) {
	var trial Trial
	trial.Invalidate(Reason{CodeSteal, "the hypervisor took 9 %"},
		Reason{CodeLostCPU, "the DUT waited"}, Reason{CodeUnknown, "it rained."})
	want := "the hypervisor took 9 % [steal]; the DUT waited [lost-cpu]; it rained [unknown]. " +
		"Fix: " + busy + "."
	if got := trial.WhyInvalid(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	old := Trial{Invalid: []string{"of a run without codes"}}
	if got := old.WhyInvalid(); got != "of a run without codes." {
		t.Error(got)
	}
}
