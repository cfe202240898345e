package live

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/search"
)

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "127.9.9.9:0": "127.9.9.9:0", "[::1]:80": "[::1]:80",
		"8080": "127.0.0.1:8080", "localhost:1": "127.0.0.1:1",
	} {
		if got, err := Address(text); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", ":8080", "0.0.0.0:80", "[::]:80", "192.0.2.1:80", "example.org:80", "127.0.0.1",
		"127.0.0.1:65536", "127.0.0.1:http", "127.0.0.1:-1", "70000",
	} {
		if got, err := Address(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}

// story is a run or a search, played to a server and written to a folder.
type story struct {
	t      *testing.T
	server *Server
	folder *results.Folder
	run    *results.Run
	limits *search.Report // nil: a run
	began  time.Time
}

// newStory returns a run of two scenarios, one trial each.
func newStory(t *testing.T) *story {
	t.Helper()
	return tell(t, nil, "baseline", `the "other" one`)
}

// newSearch returns a search for the limit of one scenario. Its run has no scenario yet.
func newSearch(t *testing.T) *story {
	t.Helper()
	return tell(t, &search.Report{Search: search.Found{
		Experiment: "small", Goal: "highest rate:users", Confidence: .95,
		Scenarios: []search.Scenario{{Name: "baseline", Unit: "/s", Predicted: 150}},
	}})
}

func tell(t *testing.T, limits *search.Report, scenarios ...string) *story {
	t.Helper()
	server, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	began := time.Now()
	s := &story{t: t, server: server, folder: folder, limits: limits, began: began,
		run: &results.Run{
			Schema: results.SchemaVersion, ID: "night", Experiment: "small", Ctload: "test",
			Started: began, Unfinished: true, Scenarios: []results.Scenario{},
		},
	}
	for _, name := range scenarios {
		s.run.Scenarios = append(s.run.Scenarios, results.Scenario{Name: name})
	}
	s.save()
	server.Show(s.page)
	begin := events.Event{Kind: events.RunBegin, Run: s.run}
	begin.Order = make([]events.Place, len(scenarios))
	s.tell(begin)
	return s
}

// try adds a value that the search tries, and returns the index of its scenario.
func (s *story) try(name string) int {
	s.run.Scenarios = append(s.run.Scenarios, results.Scenario{Name: name})
	return len(s.run.Scenarios) - 1
}

// know takes over what the search knows of its limit.
func (s *story) know(known search.Scenario) {
	s.limits.Search.Scenarios[0] = known
	s.tell(events.Event{Kind: events.LimitMoved, Limit: &known})
}

func (s *story) tell(e events.Event) {
	e.Time = s.began
	s.server.Take(e)
}

func (s *story) save() {
	s.t.Helper()
	if err := s.folder.Save(s.run); err != nil {
		s.t.Fatal(err)
	}
}

// begin begins the trial of a scenario.
func (s *story) begin(scenario int) {
	name := s.run.Scenarios[scenario].Name
	s.tell(events.Event{Kind: events.TrialBegin, Scenario: name, Trial: 1,
		Index: scenario + 1, Total: 2})
	s.tell(events.Event{Kind: events.StageBegin, Scenario: name, Trial: 1,
		Stage: &events.Stage{Name: "load"}})
}

// sample is what is measured at a tenth of a second.
func sample(n int) results.Sample {
	done := int64(10 * max(0, n))
	return results.Sample{
		Seconds: float64(n) / 10, Count: min(64, done), Max: 64, Buckets: 64,
		Counters: results.Counters{Drop: max(0, done-64), ClashResolve: 3},
		Progress: results.Progress{Offered: done, Done: min(64, done), Failed: max(0, done-64)},
	}
}

// measure tells of the samples from one number up to another.
func (s *story) measure(scenario, from, to int) {
	for n := from; n < to; n++ {
		one := sample(n)
		s.tell(events.Event{Kind: events.SampleTaken, Scenario: s.run.Scenarios[scenario].Name,
			Trial: 1, Sample: &one})
		s.tell(events.Event{Kind: events.ProbeMoved, Scenario: s.run.Scenarios[scenario].Name,
			Trial: 1, Probe: &events.Probe{Name: "ssh", Seconds: one.Seconds,
				Sent: int64(n + 10), Lost: int64(max(0, n-7)), Millis: 1.5}})
	}
}

// end writes the trial of a scenario, and tells of its end.
func (s *story) end(scenario, samples int) {
	s.t.Helper()
	folder, err := s.folder.CreateTrial(fmt.Sprintf("s%d", scenario), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	lines, err := folder.Samples()
	if err != nil {
		s.t.Fatal(err)
	}
	var list []results.Sample
	for n := -5; n < samples; n++ {
		list = append(list, sample(n))
		if err := lines.Append(sample(n)); err != nil {
			s.t.Fatal(err)
		}
	}
	trial := results.Trial{
		Number: 1, Folder: folder.Name(), Started: s.began, Seconds: 2, Verdict: results.TableFull,
		Sentence: "the table was full",
	}
	results.Summarise(&trial, list, nil)
	of := &s.run.Scenarios[scenario]
	of.Trials = append(of.Trials, trial)
	s.save()
	s.tell(events.Event{Kind: events.TrialEnd, Scenario: of.Name, Trial: 1, Result: &trial})
}

// page renders the page of the run as its folder has it.
func (s *story) page(live string) ([]byte, error) {
	run, err := s.folder.Load()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	options := reports.Options{Series: s.folder, Live: live}
	if s.limits != nil {
		options.Trials = run
		err = reports.Search(&b, "html", s.limits, options)
	} else {
		err = reports.Render(&b, "html", run, options)
	}
	return b.Bytes(), err
}

// final returns the page of the whole run.
func (s *story) final() []byte {
	s.t.Helper()
	s.run.Unfinished = false
	s.save()
	page, err := s.page("")
	if err != nil {
		s.t.Fatal(err)
	}
	return page
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// TestServer_Metrics: Prometheus' own tool takes the figures of the trial under way, under
// node_exporter's names; without the token there is nothing, and between trials no series.
func TestServer_Metrics(t *testing.T) {
	s := newStory(t)
	s.begin(1)
	s.measure(1, -5, 12)
	status, text := get(t, s.server.URL()+"metrics")
	const labels = `{run="night",scenario="the \"other\" one",trial="1"}`
	for _, want := range []string{
		"node_nf_conntrack_entries" + labels + " 64\n",
		"node_nf_conntrack_entries_limit" + labels + " 64\n",
		"node_nf_conntrack_stat_drop" + labels + " 46\n",
		"node_nf_conntrack_stat_early_drop" + labels + " 0\n",
		"ctload_nf_conntrack_stat_clash_resolve_total" + labels + " 3\n",
		"ctload_load_failed_total" + labels + " 46\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%d, %q is missing in\n%s", status, want, text)
		}
	}
	check := exec.Command(hosttest.Program(t, "promtool"), "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	outside := "http://" + s.server.listener.Addr().String()
	for _, path := range []string{"/", "/metrics", "/events", "/x/metrics"} {
		if status, _ := get(t, outside+path); status != http.StatusNotFound {
			t.Errorf("%s without the token: %d", path, status)
		}
	}
	s.end(1, 12)
	if _, text := get(t, s.server.URL()+"metrics"); strings.Contains(text, "\nnode_nf") {
		t.Errorf("a trial that has ended is still served:\n%s", text)
	}
	if err := s.server.End(s.final()); err != nil {
		t.Fatal(err)
	}
}

// TestServer_States: a reader gets the trial as it is measured, then word of a new page.
func TestServer_States(t *testing.T) {
	s := newStory(t)
	answer, err := http.Get(s.server.URL() + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	next := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the stream ended before %q", text)
	}
	next(`"page":"1"`)
	s.begin(0)
	s.measure(0, -5, 12)
	next(`0 of 2 trials have ended; baseline-1: load."`)
	s.measure(0, 12, 13)
	// A trial of eighteen samples, each count the difference to the one before.
	next(`"t":[-500` + strings.Repeat(",100", 17) + "]")
	s.end(0, 13)
	next(`"page":"2"`)
	ended := make(chan error, 1)
	go func() { ended <- s.server.End(s.final()) }()
	next(`"page":"3"`)
	if _, page := get(t, s.server.URL()); strings.Contains(page, "EventSource") {
		t.Error("the final page still waits for news")
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestServer_ReaderThatNeverReads: it costs no memory, and neither the run nor its end waits for
// it.
func TestServer_ReaderThatNeverReads(t *testing.T) {
	s := newStory(t)
	s.server.patience = 200 * time.Millisecond
	stuck, err := net.Dial("tcp", s.server.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := fmt.Fprintf(stuck, "GET /%s/events HTTP/1.1\r\nHost: x\r\n\r\n",
		s.server.token); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the reader is there", func() bool {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		return s.server.readers == 1
	})
	s.begin(0)
	s.measure(0, -5, 10*mostSamples)
	s.server.mu.Lock()
	kept := len(s.server.trials[0].Samples)
	probes := len(s.server.trials[0].Probes)
	s.server.mu.Unlock()
	if kept > mostSamples || probes > mostSamples+1 {
		t.Errorf("%d samples and %d attempts are kept", kept, probes)
	}
	if err := s.server.End(s.final()); err != nil {
		t.Fatal(err)
	}
}
