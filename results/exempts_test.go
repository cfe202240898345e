package results

import (
	"strings"
	"testing"
)

// TestRules6: IPv6 rules count in every statement about rules.
func TestRules6(t *testing.T) {
	const notrack = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n"
	for name, test := range map[string]struct {
		conf  Configuration
		words string
	}{
		"none": {Configuration{}, "no rule of the DUT uses connection tracking"},
		"notrack": {
			Configuration{Rules6: notrack, Passage: Passage{Exempt: ExemptAll}},
			"the rules exempt the load",
		},
		"some packets": {
			Configuration{Rules6: notrack, Passage: Passage{Exempt: exemptSome}},
			"the rules exempt the load",
		},
		"notrack for other traffic": {
			Configuration{Rules6: notrack}, "no rule of the DUT uses connection tracking",
		},
		"stateful": {
			Configuration{Rules6: "*filter\n-A INPUT -m connbytes --connbytes 9: -j DROP\nCOMMIT"},
			"although the rules use connection tracking",
		},
	} {
		if got := untracked(test.conf); !strings.Contains(got, test.words) {
			t.Errorf("%s: %s", name, got)
		}
	}
	first := &Scenario{Name: "first"}
	other := &Scenario{Name: "other", Configuration: Configuration{
		Rules6: notrack, Passage: Passage{Exempt: ExemptAll},
	}}
	if got := strings.Join(changes(first, other), ", "); got != "other rules" {
		t.Errorf("changes: %s", got)
	}
	four := &Scenario{Name: "four", Configuration: Configuration{Rules: notrack}}
	if got := strings.Join(changes(four, other), ", "); got != "other rules" {
		t.Errorf("the same rules in the other family: %s", got)
	}
	if got := costs(first, other); !strings.Contains(got, "cannot be translated") {
		t.Errorf("costs: %s", got)
	}
	// Loopback alone is exempt.
	trial := []Trial{{Conntrack: Conntrack{Max: 8192, Buckets: 4096}}}
	lo := Configuration{Rules: strings.Replace(notrack, "-p tcp --dport 80", "-i lo", 1)}
	larger := &Scenario{Name: "larger", Configuration: lo, Trials: trial}
	if got := costs(first, larger); !strings.Contains(got, "of kernel memory") {
		t.Errorf("costs: %s", got)
	}
}
