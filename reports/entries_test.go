package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
)

// relay returns a run of an attacker, of users and of a silent flood, beside two bystanders.
func relay(trials int) *results.Run {
	run := &results.Run{Experiment: "relay", Environment: results.Environment{Driver: "netns"}}
	for i, name := range []string{"open", "limited"} {
		s := results.Scenario{Name: name}
		for n := range trials {
			failed := int64(520 * i)
			t := results.Trial{
				Number: n + 1, Seconds: 15,
				Entries: map[string]results.Entry{
					"attacker": {Kind: "hold", Role: results.Hostile, Attempts: results.Attempts{
						Unit: "connections", Offered: 600, Completed: new(600 - failed),
						Failed: failed, Connect: latency(0.4, 2, 3), Seconds: 15,
					}},
					"flood": {Kind: "udp", Attempts: results.Attempts{
						Unit: "flows", Offered: 400, Sent: new(int64(400)), Seconds: 2,
					}},
					"users": {Kind: "http", From: "client2", Attempts: results.Attempts{
						Unit: "requests", Offered: 150, Completed: new(int64(150)), Rate: 10,
						Connect: latency(0.3, 1, 2+float64(n)), Latency: latency(0.5, 2, 4),
						Seconds: 15,
					}},
				},
				Conntrack: results.Conntrack{Tracked: true, Peak: 1200, Max: 65536},
				Probe:     &results.Probe{Sent: 194, Lost: 97},
				Probes: map[string]results.Probe{
					"closed": {Kind: "tcp", Sent: 97, Lost: 97, Loss: 1},
					"ssh":    {Kind: "tcp", Sent: 97, Latency: latency(1, 2, 3)},
				},
			}
			if failed > 0 {
				e := t.Entries["attacker"]
				e.Causes = map[string]int64{results.CauseTimeout: failed}
				t.Entries["attacker"] = e
			}
			results.Judge(&t)
			s.Trials = append(s.Trials, t)
		}
		run.Scenarios = append(run.Scenarios, s)
	}
	return run
}

// TestEntriesGolden: a scenario has a line for each entry, and for each probe where its columns
// are.
func TestEntriesGolden(t *testing.T) {
	golden(t, "entries-80.txt", render(t, "table", relay(1), Options{Width: 80}))
	golden(t, "entries-wide.txt", render(t, "table", relay(1), Options{Wide: true}))
	golden(t, "entries-trials.txt", render(t, "table", relay(5), Options{Width: 80}))
	golden(t, "entries.md", render(t, "markdown", relay(1), Options{}))
}

// TestEntriesCSV: each entry and each probe has columns of its own.
func TestEntriesCSV(t *testing.T) {
	records, err := csv.NewReader(bytes.NewReader(render(t, "csv", relay(1), Options{}))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for column, want := range map[string]string{
		"entries.attacker.failed": "520", "entries.attacker.role": "hostile",
		"entries.users.completed": "150", "entries.users.sent": "", "entries.flood.sent": "400",
		"entries.flood.completed": "", "probes.closed.loss": "1", "probes.ssh.lost": "0",
		"load.completed": "",
	} {
		at := slices.Index(records[0], column)
		if at < 0 || records[2][at] != want {
			t.Errorf("column %s at %d: want %q", column, at, want)
		}
	}
}

// progressed gives samples in which each entry has done what it did by the end.
type progressed struct{ noSeries }

func (progressed) Series(t *results.Trial) (
	samples []results.Sample, probes []results.ProbeSample, err error,
) {
	s := results.Sample{Seconds: 1, Entries: map[string]results.Progress{}}
	for name, e := range t.Entries {
		s.Entries[name] = results.Progress{Offered: e.Offered, Done: e.Done(), Failed: e.Failed}
	}
	return []results.Sample{{}, s}, nil, nil
}

// TestEntriesOfPage: the page has a curve for each entry, and a latency for those that have one.
func TestEntriesOfPage(t *testing.T) {
	page := string(render(t, "html", relay(1), Options{Series: progressed{}}))
	_, text, _ := strings.Cut(page, `id="data">`)
	text, _, _ = strings.Cut(text, "</script>")
	var plots []plotScenario
	if err := json.Unmarshal([]byte(text), &plots); err != nil {
		t.Fatal(err)
	}
	var curves, latencies []string
	for _, e := range plots[1].Trials[0].Entries {
		curves = append(curves, e.Name+" "+e.Word)
		if e.Name == "attacker" && (e.Done[1] != 80 || e.Failed[1] != 520) {
			t.Errorf("attacker: %+v", e)
		}
	}
	for _, e := range plots[1].Entries {
		if e.Total != nil {
			latencies = append(latencies, e.Name)
		}
	}
	if want := []string{"flood sent", "users completed", "attacker completed"}; !slices.Equal(
		curves, want) {
		t.Errorf("curves %q, want %q", curves, want)
	}
	if want := []string{"users"}; !slices.Equal(latencies, want) {
		t.Errorf("latencies of %q, want %q", latencies, want)
	}
	for _, want := range []string{"└ attacker", "users connect", ">ssh<"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}
