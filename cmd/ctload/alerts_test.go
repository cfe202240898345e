package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// TestAlerts_OfAMeasuredRun: over a measured trial, a rule at 75 % fires when run.json says that
// the usual alert would have, to a scrape.
func TestAlerts_OfAMeasuredRun(t *testing.T) {
	hosttest.Need(t, "promtool")
	folder, err := filepath.Abs("testdata/runs/after")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := results.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	run, err := kept.Load()
	if err != nil {
		t.Fatal(err)
	}
	c := run.Scenario("tracked").Trials[0].Conntrack
	if len(c.Alerts) == 0 || c.Alerts[0].Share != 0.75 || c.FirstDrop == nil {
		t.Fatalf("the run has no alert at 75 %%: %+v", c.Alerts)
	}
	rules := filepath.Join(t.TempDir(), "rules.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("groups: [{name: a, rules: [{alert: Filling, expr: " +
		"'node_nf_conntrack_entries / node_nf_conntrack_entries_limit > 0.75'}]}]")
	const scrape = 200 * time.Millisecond
	o := ctload(t, time.Minute, "report", folder, "--alerts", rules, "--scrape", scrape.String(),
		"--format", "json")
	var trials []struct {
		Scenario string
		Alerts   []struct {
			Fired *float64 `json:"fired_s"`
			Lead  *float64 `json:"lead_s"`
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &trials); err != nil || o.status != statusOK {
		t.Fatalf("%v, exit status %d\n%s%s", err, o.status, o.stdout, o.stderr)
	}
	if len(trials) != 2 {
		t.Fatalf("%s", o.stdout)
	}
	for _, trial := range trials {
		a := trial.Alerts[0]
		if trial.Scenario != "tracked" {
			if a.Fired != nil {
				t.Errorf("%s: fired after %v s", trial.Scenario, *a.Fired)
			}
			continue
		}
		late := *a.Fired - c.Alerts[0].Fired
		if late < -1e-9 || late > scrape.Seconds() {
			t.Errorf("fired after %v s, and run.json says %v", *a.Fired, c.Alerts[0].Fired)
		}
		if math.Abs(*a.Lead-(*c.FirstDrop-*a.Fired)) > 1e-9 {
			t.Errorf("lead %v, first drop %v", *a.Lead, *c.FirstDrop)
		}
	}
	for text, want := range map[string]string{
		"groups: [{name: a, rules: [{alert: B, expr: 'x >'}]}]": "parse error",
		"groups: [{name: a, rules: [{record: b, expr: x}]}]":    "no alert",
	} {
		write(text)
		o := ctload(t, time.Minute, "report", folder, "--alerts", rules)
		if o.status != statusUsage || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit status %d, %s", text, o.status, o.stderr)
		}
	}
}

// TestPlanAlerts: promtool takes the rules that a plan prints.
func TestPlanAlerts(t *testing.T) {
	check := exec.Command(hosttest.Program(t, "promtool"), "check", "rules")
	o := ctload(t, time.Minute, "plan", "--rate", "100", "--residence", "time_wait", "--memory",
		"4GiB", "--kernel", "6.1", "--max", "16384", "--alerts", "--lead", "5m")
	if o.status != statusOK || !strings.Contains(o.stdout, "node_nf_conntrack_entries_limit") {
		t.Fatalf("exit status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(o.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	check.Args = append(check.Args, file)
	if out, err := check.CombinedOutput(); err != nil || !strings.Contains(string(out), "4 rules") {
		t.Errorf("%v: %s\n%s", err, out, o.stdout)
	}
	for _, args := range [][]string{
		{"plan", "table-full", "--alerts"},
		{"plan", "--rate", "1", "--residence", "udp", "--alerts", "--format", "json"},
	} {
		if o := ctload(t, time.Minute, args...); o.status != statusUsage {
			t.Errorf("%q: exit status %d", args, o.status)
		}
	}
}
