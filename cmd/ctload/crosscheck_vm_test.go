package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/results"
)

// agreesWithGuest compares a trial's counters with those that the guest's own kernel and
// conntrack(8) gave before it, and right before and after its last sample: retries in between
// count.
func agreesWithGuest(t testing.TB, run string, trial results.Trial) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(run, trial.Folder, "witness.json"))
	if err != nil {
		t.Fatal(err)
	}
	var checks map[string]orchestrator.CrossCheck
	if err := json.Unmarshal(data, &checks); err != nil {
		t.Fatal(err)
	}
	sums := func(when string) map[string]int64 { return statSums(t, checks[when].Stat) }
	before, last, after := sums("before"), sums("last"), sums("after")
	c := trial.Conntrack
	for name, got := range map[string]int64{
		"drop": c.Drop, "early_drop": c.EarlyDrop, "insert_failed": c.InsertFailed,
		"chaintoolong": c.ChainTooLong, "clashres": c.ClashResolve, "invalid": c.Invalid,
		"found": c.Found, "search_restart": c.SearchRestart,
	} {
		least, most := last[name]-before[name], after[name]-before[name]
		if got < least || got > most {
			t.Errorf("%s: reported %d, /proc/net/stat/nf_conntrack says %d right before, %d after",
				name, got, least, most)
		}
	}
	count, err := strconv.ParseInt(checks["after"].Count, 10, 64)
	if err != nil {
		t.Fatalf("conntrack -C in the guest: %v", err)
	}
	// Between the last sample and the tool the kernel may free expired entries.
	if d := c.Final - count; d < -2 || d > 20 {
		t.Errorf("final count %d, conntrack -C says %d", c.Final, count)
	}
	if d := trial.Contents.Entries - count; d < -20 || d > 20 {
		t.Errorf("the walk over the table found %d entries, conntrack -C says %d",
			trial.Contents.Entries, count)
	}
}

// statSums parses /proc/net/stat/nf_conntrack independently: columns by their names in the kernel's
// own seq_printf, chain length and clashes under the headers that it mislabels.
func statSums(t testing.TB, text string) map[string]int64 {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	header := strings.Fields(lines[0])
	sums := map[string]int64{}
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			n, err := strconv.ParseInt(field, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			sums[header[i]] += n
		}
	}
	// Kernels name these columns in more than one way.
	for _, alias := range [][2]string{
		{"searched", "clashres"}, {"clash_resolve", "clashres"},
		{"delete_list", "chainlength"}, {"chainlength", "chaintoolong"},
	} {
		if n, ok := sums[alias[0]]; ok {
			if _, named := sums[alias[1]]; !named {
				sums[alias[1]] = n
			}
		}
	}
	return sums
}
