package results

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked reads a list, or the text of one, as run.json has it.
func asked(t testing.TB, document string) (a Asked) {
	t.Helper()
	if err := json.Unmarshal([]byte(document), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// inText returns a list as documents before schema 3 have it.
func inText(list string) string {
	text, _ := json.Marshal(list)
	return string(text)
}

func both(what, a, b string) string { return fmt.Sprintf("%s: %s, %s", what, a, b) }

func TestAskedDifferences(t *testing.T) {
	for _, test := range []struct {
		name, a, b string
		want       []string
	}{
		{"the same", `[{"requests":5000}]`, `[{"requests":5000}]`, nil},
		{
			"an older run", inText(`[{"AtOnce":"2","Rate":"0/s","Ports":null,"NFT":"x"}]`),
			`[{"at-once":2,"nft":"x"}]`, nil,
		},
		{
			"one of another value", `[{"requests":5000}]`, `[{"requests":9000,"rate":"10/s"}]`,
			[]string{
				`rate of entry 1 of the workload: , 10/s`,
				`requests of entry 1 of the workload: 5000, 9000`,
			},
		},
		{
			"another entry", `[{"requests":5000}]`, `[{"requests":5000},{"probe":"tcp"}]`,
			[]string{"workload: 1 entry, 2 entries"},
		},
		{
			"none", `""`, `[{"requests":5000}]`, []string{"workload: 0 entries, 1 entry"},
		},
	} {
		got := asked(t, test.a).Differences(asked(t, test.b), "workload", "entry", both)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// FuzzAsked: a list differs from itself in nothing, and from another in the same settings from
// either side; a list that was read and written again is the same.
func FuzzAsked(f *testing.F) {
	f.Add(`[{"requests":5000}]`, `[{"requests":9}]`)
	f.Add(`""`, `[]`)
	f.Add(`[null]`, `[{}]`)
	f.Add(inText(`[{"Kind":"flush","At":"5s"}]`), inText("no JSON"))
	f.Fuzz(func(t *testing.T, first, second string) {
		var a, b Asked
		if json.Unmarshal([]byte(first), &a) != nil || json.Unmarshal([]byte(second), &b) != nil {
			return
		}
		differ := func(a, b Asked) []string { return a.Differences(b, "workload", "entry", both) }
		if got := differ(a, a); got != nil {
			t.Errorf("%q differs from itself: %v", first, got)
		}
		if len(differ(a, b)) != len(differ(b, a)) {
			t.Errorf("%q and %q differ the more from one side", first, second)
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if got := differ(a, asked(t, string(written))); got != nil {
			t.Errorf("%s read again differs: %v", written, got)
		}
	})
}
