package preflight

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRead reads what the tools of Debian 12 say.
func TestRead(t *testing.T) {
	for said, want := range map[string][]Fault{
		"iptables-nft-restore v1.8.9 (nf_tables): Bad state \"ESTABLISHD\"\nError occurred at " +
			"line: " +
			"5\nTry `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more " +
			"information.\n": {
			{"rules", 5, 0, `Bad state "ESTABLISHD"`, false},
		},
		"iptables-nft-restore v1.8.9 (nf_tables): \nline 2: RULE_APPEND failed (No such file or " +
			"directory): rule in chain PREROUTING\n": {
			{
				"rules", 2, 0,
				"line 2: RULE_APPEND failed (No such file or directory): rule in chain " +
					"PREROUTING", true,
			},
		},
		"/dev/stdin:4:12-21: Error: Could not parse conntrack state\n  ct state stablished " +
			"accept\n" +
			"           ^^^^^^^^^^\n/dev/stdin:7:1-3: Error: Could not process rule: No such " +
			"file\n": {
			{"rules", 4, 12, "Could not parse conntrack state", false},
			{"rules", 7, 1, "Could not process rule: No such file", true},
		},
		"ipset v7.17: Error in line 2: Syntax error: '192.0.2' is invalid\n": {
			{"rules", 2, 0, "Error in line 2: Syntax error: '192.0.2' is invalid", false},
		},
		"": {{"rules", 0, 0, "", false}},
	} {
		if diff := cmp.Diff(want, read("rules", said)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", said, diff)
		}
	}
}

// TestLocate finds the rule that a tool tells of at the end of its table.
func TestLocate(t *testing.T) {
	text := "*filter\n-A INPUT -j ACCEPT\n-A INPUT -j NOWHERE\n-A INPUT -j DROP\nCOMMIT\n"
	for f, want := range map[Fault]int{
		{Line: 5, Said: "Chain 'NOWHERE' does not exist"}: 3,
		{Line: 5, Said: "something else"}:                 5,
		{Line: 2, Said: "Chain 'NOWHERE'"}:                2,
		{}:                                                0,
	} {
		if got := f.Locate(text); got != want {
			t.Errorf("%+v: %d, want %d", f, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("/dev/stdin:4:12-21: Error: x\n", "a\nCOMMIT\n")
	f.Add("ipset v7.17: Error in line 2: x `y'", "COMMIT")
	f.Fuzz(func(t *testing.T, said, text string) {
		for _, fault := range read("nft", said) {
			if fault.Line < 0 || fault.Column < 0 || fault.Locate(text) < 0 {
				t.Errorf("%q: %+v", said, fault)
			}
		}
	})
}
