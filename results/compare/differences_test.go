package compare

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWorkloadDifferences(t *testing.T) {
	for _, test := range []struct {
		name, a, b string
		want       []string
	}{
		{"equal", `[{"Requests":"5000"}]`, `[{"Requests":"5000"}]`, nil},
		{
			"a setting of a later version", `[{"Requests":"5000"}]`,
			`[{"Requests":"5000","Listener":"","Start":"0s","Rate":"0/s","Payload":"0B",` +
				`"Stages":null,"Silent":false}]`, nil,
		},
		{
			"one of another value", `[{"Requests":"5000","Rate":"0/s"}]`,
			`[{"Requests":"9000","Rate":"10/s"}]`,
			[]string{
				`Rate of entry 1 of the workload: none in last, "10/s" in this`,
				`Requests of entry 1 of the workload: "5000" in last, "9000" in this`,
			},
		},
		{
			"another entry", `[{"Requests":"5000"}]`, `[{"Requests":"5000"},{"Probe":"tcp"}]`,
			[]string{"workload: 1 entry in last, 2 entries in this"},
		},
		{
			"none", ``, `[{"Requests":"5000"}]`,
			[]string{"workload: 0 entries in last, 1 entry in this"},
		},
		{"no JSON", `http 5000`, ``, []string{"workload: http 5000 in last, none in this"}},
	} {
		got := pair{"last", "this"}.settings("workload", "entry", test.a, test.b)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestActionDifferences(t *testing.T) {
	got := pair{"last", "this"}.settings("actions of fixed", "number",
		`[{"Kind":"flush","At":"5s","Node":"dut"}]`,
		`[{"Kind":"flush","At":"9s","Node":"dut","Loss":"0%"}]`)
	want := []string{`At of number 1 of the actions of fixed: "5s" in last, "9s" in this`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzWorkloadDifferences(f *testing.F) {
	f.Add(`[{"Requests":"5000"}]`, `[{"Requests":9}]`)
	f.Add(``, `[]`)
	f.Add(`[null]`, `[{}]`)
	f.Fuzz(func(t *testing.T, a, b string) {
		differ := func(a, b string) []string {
			return pair{"x", "y"}.settings("workload", "entry", a, b)
		}
		if got := differ(a, a); got != nil {
			t.Errorf("%q differs from itself: %v", a, got)
		}
		if len(differ(a, b)) != len(differ(b, a)) {
			t.Errorf("%q and %q differ the more from one side", a, b)
		}
	})
}
