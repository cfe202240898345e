package orchestrator

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/vm"
)

// TestHostLoad compares the load averages with those of /proc/loadavg, which the kernel changes
// every five seconds.
func TestHostLoad(t *testing.T) {
	averages := func() []string {
		text, err := os.ReadFile("/proc/loadavg")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(text))[:3]
	}
	var got []float64
	before := averages()
	for {
		got = environment(vm.About{}).HostLoad
		after := averages()
		if slices.Equal(before, after) {
			break
		}
		before = after
	}
	for i, field := range before {
		want, err := strconv.ParseFloat(field, 64)
		if err != nil || len(got) != 3 {
			t.Fatalf("%v, %v", got, err)
		}
		if off := got[i] - want; off > 0.02 || off < -0.02 {
			t.Errorf("load %d: %v, /proc/loadavg says %v", i, got[i], want)
		}
	}
}

func TestModulesOfEveryTrial(t *testing.T) {
	var common []string
	for _, trial := range [][]string{{"a", "b", "c"}, {"b", "c", "d"}, {"c", "b"}} {
		common = inAll(common, trial)
	}
	if diff := cmp.Diff([]string{"b", "c"}, common); diff != "" {
		t.Error(diff)
	}
	if common = inAll(inAll(nil, []string{"a"}), []string{"b"}); common == nil || len(common) > 0 {
		t.Errorf("%v, want an empty list: a third trial is not to begin anew", common)
	}
}
