package metrics

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// filling is a trial whose table of 100 gains 10 entries a second from second 0 on, and drops from
// second 10 on.
func filling(scenario string, zero time.Time) Series {
	s := Series{Run: "night", Scenario: scenario, Trial: 1, Zero: zero}
	for n := -5; n <= 150; n++ {
		s.Samples = append(s.Samples, results.Sample{
			Seconds: float64(n) / 10, Count: max(0, min(100, int64(n))), Max: 100, Buckets: 64,
			Counters: results.Counters{Drop: max(0, int64(n)-100)},
			Progress: results.Progress{Done: max(0, int64(n))},
		})
	}
	return s
}

var zero = time.Date(2026, 11, 20, 13, 6, 12, 345_678_900, time.UTC)

// TestOpenMetrics_InPrometheus loads two trials into a database of Prometheus with its own tool,
// starts Debian's Prometheus over it, and asks when an alert's expression held: the answer is the
// second of the samples.
func TestOpenMetrics_InPrometheus(t *testing.T) {
	promtool := hosttest.Program(t, "promtool")
	prometheus := hosttest.Program(t, "prometheus")
	dir := t.TempDir()
	file, data := filepath.Join(dir, "run.om"), filepath.Join(dir, "data")
	var text bytes.Buffer
	odd := filling(`od"d`, zero.Add(time.Minute))
	odd.Samples = slices.Insert(odd.Samples, 20, odd.Samples[19]) // twice at one time
	if err := WriteOpenMetrics(&text, []Series{filling("baseline", zero), odd}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", file,
		data).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said hosttest.Buffer
	server := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+data,
		"--storage.tsdb.retention.time=100y", "--web.listen-address=127.0.0.1:0",
		"--log.format=json")
	server.Stderr, server.Stdout = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	address := regexp.MustCompile(`"address":"(127\.0\.0\.1:[1-9]\d*)"`)
	var at []string
	hosttest.Eventually(t, "Prometheus serves", func() bool {
		at = address.FindStringSubmatch(said.String())
		return at != nil && strings.Contains(said.String(), "ready to receive web requests")
	})
	out, err = exec.Command(promtool, "query", "range", "--format=json",
		"--start="+strconv.FormatInt(zero.Unix()-2, 10),
		"--end="+strconv.FormatInt(zero.Unix()+15, 10),
		"--step=1s", "http://"+at[1],
		`node_nf_conntrack_entries{scenario="baseline"} / node_nf_conntrack_entries_limit > 0.75`,
	).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	var found []struct {
		Metric map[string]string
		Values [][2]any
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(found) != 1 || len(found[0].Values) == 0 {
		t.Fatalf("%s", out)
	}
	want := map[string]string{"run": "night", "scenario": "baseline", "trial": "1"}
	if diff := cmp.Diff(want, found[0].Metric); diff != "" {
		t.Error(diff)
	}
	// The count is above 75 from 7.6 s after zero on, which is at .345 of a second.
	if first := found[0].Values[0][0]; first != float64(zero.Unix()+8) {
		t.Errorf("it holds from %v on, and zero is at %d", first, zero.Unix())
	}
}

// TestEvery: a scrape sees the latest sample since the one before, or nothing.
func TestEvery(t *testing.T) {
	s := Series{}
	if list := s.Every(time.Second); list != nil {
		t.Errorf("without samples: %v", list)
	}
	for _, at := range []float64{-0.5, 0, 0.4, 0.6, 3, 3.5} {
		s.Samples = append(s.Samples, results.Sample{Seconds: at})
	}
	var got []float64
	for _, seen := range s.Every(time.Second) {
		if seen == nil {
			got = append(got, -1)
		} else {
			got = append(got, seen.Seconds)
		}
	}
	// Scrapes are at -0.5, 0.5, 1.5, 2.5 and 3.5.
	if diff := cmp.Diff([]float64{-0.5, 0.4, 0.6, -1, 3.5}, got); diff != "" {
		t.Error(diff)
	}
}

// TestDashboard: the dashboard of the documentation asks only for metrics that ctload writes.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		UID    string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range List() {
		names = append(names, m.Name)
	}
	asked := 0
	name := regexp.MustCompile(`\b(?:node|ctload)_[a-z_]+`)
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			found := name.FindAllString(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s: %q asks for nothing", p.Title, target.Expr)
			}
			for _, of := range found {
				asked++
				if !slices.Contains(names, of) {
					t.Errorf("%s asks for %s, which ctload does not write", p.Title, of)
				}
			}
		}
	}
	if asked < 10 || board.Title == "" || board.UID == "" {
		t.Errorf("%d metrics in %q", asked, board.Title)
	}
}
