package actions

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of docs/language.md")

const page = "../../docs/language.md"

// documented is the table as docs/language.md has it.
func documented() string {
	var b strings.Builder
	b.WriteString("| action | its keys | what it does | taken back | has for itself |\n|---|---|---|---|---|\n")
	for _, fact := range Table {
		keys := make([]string, len(fact.Keys))
		for i, key := range fact.Keys {
			keys[i] = "`" + key + "`"
		}
		back := "yes"
		if fact.Once {
			back = "no"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", fact.Kind, strings.Join(keys, ", "), fact.Means, back, fact.Owns)
	}
	return b.String()
}

func TestTable_IsDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "| action | its keys |")
	table, after, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatalf("%s has no table of actions", page)
	}
	want := documented()
	if got := "| action | its keys |" + table + "\n"; got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the table says; run go test ./internal/actions -update", page)
	}
	if err := os.WriteFile(page, []byte(before+want+"\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTable_Sound(t *testing.T) {
	seen := map[Kind]bool{}
	for _, fact := range Table {
		if seen[fact.Kind] {
			t.Errorf("%s stands twice in the table", fact.Kind)
		}
		seen[fact.Kind] = true
		if fact.Means == "" || len(fact.Keys) == 0 {
			t.Errorf("%s: no meaning, or no keys", fact.Kind)
		}
		if fact.Once && fact.Stays {
			t.Errorf("%s is over at once and stays", fact.Kind)
		}
	}
}
