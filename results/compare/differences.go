package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// workloadDifferences returns the settings in which two workloads differ, given as in
// [results.Run].Workload: a JSON list with an object for each generator and probe. A missing
// setting did not exist yet when the run was made; it equals one that is zero.
func workloadDifferences(aName, a, bName, b string) []string {
	return entryDifferences("workload", "entry", aName, a, bName, b)
}

// actionDifferences does the same for a scenario's actions, given as in [results.Scenario].Actions.
func actionDifferences(scenario, aName, a, bName, b string) []string {
	return entryDifferences("actions of "+scenario, "number", aName, a, bName, b)
}

// entryDifferences returns the settings in which two JSON lists of objects differ. what names the
// lists, one names an object.
func entryDifferences(what, one, aName, a, bName, b string) []string {
	if a == b {
		return nil
	}
	as, okA := workloadEntries(a)
	bs, okB := workloadEntries(b)
	if !okA || !okB {
		return []string{inBoth(what, aName, a, bName, b)}
	}
	if len(as) != len(bs) {
		return []string{inBoth(what, aName, entries(len(as)), bName, entries(len(bs)))}
	}
	var list []string
	for i := range as {
		all := maps.Clone(as[i])
		maps.Copy(all, bs[i])
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if x, y := as[i][name], bs[i][name]; x != y {
				setting := fmt.Sprintf("%s of %s %d of the %s", name, one, i+1, what)
				list = append(list, inBoth(setting, aName, x, bName, y))
			}
		}
	}
	return list
}

// workloadEntries returns the settings of each object that are not zero, as JSON.
func workloadEntries(text string) ([]map[string]string, bool) {
	if text == "" {
		return nil, true
	}
	var raw []map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &raw) != nil {
		return nil, false
	}
	list := make([]map[string]string, len(raw))
	for i, entry := range raw {
		list[i] = map[string]string{}
		for name, value := range entry {
			switch v := string(value); v {
			case `null`, `""`, `0`, `false`, `[]`, `{}`, `"0"`, `"0s"`, `"0B"`, `"0/s"`, `"0%"`, `"0bit/s"`:
			default:
				list[i][name] = v
			}
		}
	}
	return list, true
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
