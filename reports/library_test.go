package reports

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
)

// described are two experiments of one group and one of another.
var described = []results.Description{
	{
		Name: "table-full", Group: "classic", Title: "Classics",
		Summary: "short connections against a small table", Seconds: 41,
	},
	{
		Name: "zones", Group: "classic", Title: "Classics", Summary: "zones share one table",
		Seconds: 61,
	},
	{
		Name: "pause", Group: "chaos", Title: "Chaos", Summary: "a paused guest", Seconds: 900,
		Story: "It stands still.\nThen it goes on.", Watch: "the burst",
		Scenarios: []results.DescribedOption{
			{Name: "a", Summary: "for a second"}, {Name: "longer", Summary: "for ten\x1b[31m"},
		},
		Sources: []string{"one", "two"},
	},
}

func TestCatalogue_Groups(t *testing.T) {
	var b strings.Builder
	if err := Catalogue(&b, "table", described, Options{}); err != nil {
		t.Fatal(err)
	}
	want := `Classics
table-full     50 s  short connections against a small table
zones       1.5 min  zones share one table

Chaos
pause        15 min  a paused guest

The times are estimates without KVM; boots are quicker with it.
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := Catalogue(&b, "table", described, Options{Width: 50}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if len(strings.TrimSuffix(line, "\n")) > max(50, minWidth) &&
			!strings.HasPrefix(line, "The times") {
			t.Errorf("wider than the terminal: %q", line)
		}
	}
}

func TestBrief(t *testing.T) {
	var b strings.Builder
	if err := Brief(&b, described[2], Options{}); err != nil {
		t.Fatal(err)
	}
	want := `pause  (chaos; about 15 min without KVM)
a paused guest

story     It stands still. Then it goes on.

watch     the burst

compares  a       for a second
          longer  for ten` + "\uFFFD" + `[31m

sources   one; two

ctload run pause
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestHits_CutAtTheWidth(t *testing.T) {
	hits := []results.Hit{
		{
			Experiment: "zones", Group: "classic", Line: 7, Where: "story",
			Text: strings.Repeat("word ", 40),
		},
		{Experiment: "raw-table", Group: "write-up", Line: 104, Where: "dut", Text: "-j NOTRACK"},
	}
	var b strings.Builder
	if err := Hits(&b, hits, Options{Width: 80}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 3 || len(lines[0]) > 80 || !strings.HasSuffix(lines[0], "...") ||
		lines[1] != "write-up  raw-table:104  dut: -j NOTRACK" {
		t.Errorf("got\n%s", b.String())
	}
}
