package results

import (
	"strings"
	"testing"
)

// TestRules6: IPv6 rules count in every statement about rules.
func TestRules6(t *testing.T) {
	const notrack = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n"
	for name, test := range map[string]struct {
		conf    Configuration
		exempts bool
		words   string
	}{
		"none":    {Configuration{}, false, "no rule of the DUT uses connection tracking"},
		"notrack": {Configuration{Rules6: notrack}, true, "the rules exempt the load"},
		"some packets": {
			Configuration{Rules6: strings.Replace(notrack, "--dport 80", "--syn", 1)}, false,
			"the rules exempt the load",
		},
		"stateful": {
			Configuration{Rules6: "*filter\n-A INPUT -m connbytes --connbytes 9: -j DROP\nCOMMIT"},
			false, "although the rules use connection tracking",
		},
		"nft": {
			Configuration{NFT: "table ip6 t { chain c { tcp dport 80 notrack; }; }"}, true,
			"the rules exempt the load",
		},
	} {
		if got := test.conf.exempts(); got != test.exempts {
			t.Errorf("%s: exempts is %v", name, got)
		}
		if got := untracked(test.conf); !strings.Contains(got, test.words) {
			t.Errorf("%s: %s", name, got)
		}
	}
	first := &Scenario{Name: "first"}
	other := &Scenario{Name: "other", Configuration: Configuration{Rules6: notrack}}
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
}
