package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/rules"
)

// contents lists what a script makes: chains with their rules, sets.
func contents(script string) (list []string) {
	for _, t := range rules.NFT(script).Tables {
		for _, c := range t.Chains {
			list = append(list, fmt.Sprintln(t.ID(), c.Name, c.Hook, c.Priority, c.Policy))
			for _, r := range c.Rules {
				list = append(list, r.Text)
			}
		}
		for _, o := range t.Objects {
			list = append(list, fmt.Sprintln(t.ID(), o.Kind, o.Name))
		}
	}
	return list
}

const large = `#!/usr/sbin/nft -f
flush ruleset
define web = { 80, 443 }
table inet f {
  set bad { type ipv4_addr; flags interval
    elements = { 192.0.2.1, 198.51.100.0/24,
      203.0.113.1-203.0.113.9 }
  }
  map to { type inet_service : verdict; elements = { 22 : jump ssh, 80 : goto web }; }
  chain ssh { limit rate 5/second accept; drop; }
  chain web { counter accept comment "web; more"; }
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept # most
    ip saddr @bad drop
    tcp dport $web accept
    tcp dport {
      25, # mail
      26
    } accept
    tcp dport vmap @to
  }
}
add rule inet f input counter drop
`

// TestNFTParts loads a script in parts, each command in its line.
func TestNFTParts(t *testing.T) {
	parts := rules.NFTParts(large, 3)
	if len(parts) != 6 {
		t.Errorf("%d parts: %q", len(parts), parts)
	}
	if diff := cmp.Diff(contents(large), contents(strings.Join(parts, "\n"))); diff != "" {
		t.Errorf("(-whole +parts):\n%s\n%s", diff, strings.Join(parts, "\n----\n"))
	}
	lines := strings.Split(large, "\n")
	for _, want := range []string{"ip saddr @bad drop", "198.51.100.0/24", "26", "counter drop"} {
		for _, part := range parts[1:] {
			for i, line := range strings.Split(part, "\n") {
				if strings.Contains(line, want) && !strings.Contains(lines[i], want) {
					t.Errorf("line %d has %q, and in the whole %q", i+1, line, lines[i])
				}
			}
		}
	}
	for _, script := range []string{
		"", "table ip t {}\n",
		"table ip t { define a = 1; chain c { accept; }; }\n",
		"table ip t { chain c { accept; }; }\ndelete table ip t\n",
		"add table t\nadd chain t c\nadd rule t c accept\ninsert rule t c drop\n",
	} {
		if parts := rules.NFTParts(script, 1); len(parts) != 1 || parts[0] != script {
			t.Errorf("%q is divided: %q", script, parts)
		}
	}
}

func FuzzNFTParts(f *testing.F) {
	f.Add(large, 3)
	f.Add("table ip t { chain c { accept; accept; }; set s { type mark; elements = { 1 }; }; }", 1)
	f.Add("define a = 1\nadd rule ip t c tcp dport $a accept; add element ip t s { 1, 2 }", 1)
	f.Fuzz(func(t *testing.T, script string, n int) {
		if n < 1 || n > 1000 || len(rules.NFT(script).Problems) > 0 {
			return
		}
		parts := rules.NFTParts(script, n)
		if len(parts) > 1 && len(contents(strings.Join(parts, "\n"))) < len(contents(script)) {
			t.Errorf("%q has more than %q", script, parts)
		}
	})
}
