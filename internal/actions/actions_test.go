package actions

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/language.md")

const page = "../../docs/language.md"

const heading = "| action | its keys | what it does | taken back | has for itself |\n"

// documented returns the table as docs/language.md has it. Only the page, which is given, says what
// a kind does.
func documented(page string) string {
	does := map[string]string{}
	for row := range strings.Lines(page) {
		if cells := strings.Split(row, " | "); len(cells) == 5 {
			does[cells[0]] = cells[2]
		}
	}
	var b strings.Builder
	b.WriteString(heading + "|---|---|---|---|---|\n")
	for _, fact := range Table {
		back := "yes"
		if fact.Once {
			back = "no"
		}
		kind, keys := fmt.Sprintf("| `%s`", fact.Kind), strings.Join(fact.Keys, "`, `")
		fmt.Fprintf(&b, "%s | `%s` | %s | %s | %s |\n", kind, keys,
			cmp.Or(does[kind], "TODO"), back, fact.Owns)
	}
	return b.String()
}

func TestTable_IsDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), heading)
	table, after, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatalf("%s has no table of actions", page)
	}
	want := documented(table)
	if strings.Contains(want, "TODO") {
		t.Errorf("%s does not say what each kind does:\n%s", page, want)
	}
	if got := heading + table + "\n"; got == want {
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
		if len(fact.Keys) == 0 {
			t.Errorf("%s has no keys", fact.Kind)
		}
		if fact.Once && fact.Stays {
			t.Errorf("%s is over at once and stays", fact.Kind)
		}
	}
}
