package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestBaseline runs the same experiment twice, which passes, and then with a rule that refuses
// about half of the clients' ports, which fails and names the worse figures.
func TestBaseline(t *testing.T) {
	needsLab(t)
	text := strings.Replace(fmt.Sprintf(small, 300), "  memory: 256MiB\n", "", 1)
	const healthy, refusing = "", "    -A INPUT -p tcp --sport 32768:46883 -j REJECT " +
		"--reject-with tcp-reset\n" // not ICMP, whose rate the kernel limits
	with := func(rule string) string {
		return experiment(t, strings.Replace(text, "    COMMIT\n", rule+"    COMMIT\n", 1))
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	run := func(rule, name string, args ...string) outcome {
		t.Helper()
		return ctload(t, 10*time.Minute, append([]string{
			"run", with(rule), "--driver", "netns", "--out", at(name), "--trials", "3",
			labtest.Retries,
		}, args...)...)
	}

	before := run(healthy, "before")
	if before.status != statusOK {
		t.Fatalf("exit status %d\n%s", before.status, before.stderr)
	}
	again := run(healthy, "again", "--format", "json",
		"--baseline", at("before"), "--threshold", "conntrack.drop == 0",
		"--threshold", "tracked=load.failed == 0")
	if again.status != statusOK {
		t.Fatalf("the same run twice: exit status %d\n%s", again.status, again.stderr)
	}
	same := decode(t, again.stdout)
	if same.Baseline != at("before") || len(same.Regressions) > 0 ||
		!slices.Equal(same.BaselineScenarios, []string{"tracked"}) {
		t.Errorf("compared with %q, scenarios %v: %v",
			same.Baseline, same.BaselineScenarios, same.Regressions)
	}
	if held := same.Scenarios[0].Thresholds; len(held) != 2 || !held[0].Passed || !held[1].Passed {
		t.Errorf("thresholds of the command line: %+v", held)
	}

	worse := run(refusing, "worse", "--baseline", at("before"),
		"--max-regression", "20%", "--report", "junit="+at("junit.xml"),
		"--report", "markdown="+at("summary.md"), "--report", "html="+at("page.html"))
	if worse.status != statusFailed {
		t.Fatalf("with refusals: exit status %d\n%s\n%s", worse.status, worse.stdout, worse.stderr)
	}
	folder, err := results.Open(at("worse"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := folder.Load()
	if err != nil {
		t.Fatal(err)
	}
	of := func(metric string) results.Regression {
		i := slices.IndexFunc(kept.Regressions, func(r results.Regression) bool {
			return r.Scenario == "tracked" && r.Metric == metric
		})
		if i < 0 {
			t.Fatalf("run.json has no regression of %s: %v", metric, kept.Regressions)
		}
		return kept.Regressions[i]
	}
	verdict, failed := of("verdict"), of("load.failed")
	if verdict.Before != "clean" || verdict.After != "not-conntrack" || failed.Before != "0" ||
		failed.Effect == "" {
		t.Errorf("run.json has %v", kept.Regressions)
	}
	line := "tracked: load.failed was 0 and is " + failed.After
	if !strings.Contains(worse.stderr, "regressions against "+at("before")) {
		t.Errorf("stderr does not count the regressions:\n%s", worse.stderr)
	}
	texts := map[string]string{"stdout": worse.stdout}
	for _, name := range []string{"junit.xml", "summary.md", "page.html"} {
		data, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	for name, text := range texts {
		words := line
		if name == "junit.xml" {
			words = strings.TrimPrefix(line, "tracked: ") // the suite is named tracked
		}
		if !strings.Contains(text, words) {
			t.Errorf("%q is not in %s:\n%s", words, name, text)
		}
	}

	// The same by hand, later.
	later := ctload(t, time.Minute, "report", at("worse"), "--baseline", at("before"))
	if later.status != statusFailed || !strings.Contains(later.stdout, line) {
		t.Errorf("ctload report: exit status %d\n%s", later.status, later.stdout)
	}
	// A baseline of another kind is refused before anything starts.
	other := ctload(t, time.Minute, "run",
		experiment(t, strings.Replace(text, "requests: 300", "requests: 900", 1)),
		"--baseline", at("before"), "--out", at("other"))
	_, err = os.Stat(at("other"))
	if other.status != statusUsage || err == nil ||
		!strings.Contains(other.stderr, "requests of entry 1 of the workload: 300 in") {
		t.Errorf("another workload: exit status %d\n%s", other.status, other.stderr)
	}
}
