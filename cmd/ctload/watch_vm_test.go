package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
)

// TestWatch follows a run in a lab by its events and its live page, beside readers that never read:
// the events tell what the run folder holds, and the page is the final one.
func TestWatch(t *testing.T) {
	needsLab(t)
	file := experiment(t, `
experiment: watched
dut:
  memory: 256MiB
  rules: "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"
workload:
  - {name: flows, generator: udp, rate: 40/s, duration: 4s, silent: true}
  - {name: ssh, probe: tcp, port: 22, rate: 10/s}
phases: {first: 2s, second: 2s}
scenarios:
  tracked:
    actions:
      - {action: sysctl, name: raise, sysctl: {net.netfilter.nf_conntrack_max: 9999}, at: 1s}
recovery: 1s
`)
	out := filepath.Join(t.TempDir(), "run")
	cmd := command(t, "run", file, "--out", out, "--events", "-", "--live", "--retries", "0")
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.WaitFor(t, "metrics\n", time.Minute)
	address := regexp.MustCompile(`live page: (\S+)`).FindStringSubmatch(stderr.String())
	page, err := url.Parse(address[1])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		stuck, err := net.Dial("tcp", page.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Close()
		if _, err := fmt.Fprintf(stuck, "GET %sevents HTTP/1.1\r\nHost: x\r\n\r\n",
			page.Path); err != nil {
			t.Fatal(err)
		}
	}
	// A scrape while the load goes on, and a state with its curves.
	scraped, state := "", ""
	stdout.WaitFor(t, `"event":"probe"`, 2*time.Minute)
	hosttest.Eventually(t, "a scrape sees the trial", func() bool {
		scraped = fetch(page.String() + "metrics")
		return strings.Contains(scraped, `scenario="tracked",trial="1"`)
	})
	if state = fetch(page.String()); !strings.Contains(state, "EventSource") {
		t.Error("the page of a run under way does not follow it")
	}
	o := wait(t, cmd, 3*time.Minute, &stdout, &stderr)
	if o.status != statusOK || !strings.Contains(o.stderr, "verdict") {
		t.Fatalf("exit status %d; no table on stderr:\n%s", o.status, o.stderr)
	}

	folder, err := results.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	run, err := folder.Load()
	if err != nil {
		t.Fatal(err)
	}
	trial := run.Scenarios[0].Trials[0]
	samples, _, err := folder.Series(&trial)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[events.Kind]int{}
	var kinds []events.Kind
	var stages, phases, steps []string
	var last events.Event
	for line := range strings.Lines(o.stdout) {
		var e events.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		seen[e.Kind]++
		kinds = append(kinds, e.Kind)
		last = e
		switch e.Kind {
		case events.StageBegin:
			stages = append(stages, e.Stage.Name)
		case events.PhaseBegin:
			phases = append(phases, e.Phase.Name)
		case events.ActionMoved:
			steps = append(steps, e.Action.Event)
		case events.TrialEnd:
			if e.Result.Verdict != trial.Verdict || e.Scenario != "tracked" || e.Trial != 1 {
				t.Errorf("the end of the trial is told as %+v", e)
			}
		}
	}
	if kinds[0] != events.RunBegin || last.Kind != events.RunEnd || last.End.Status != 0 ||
		seen[events.TrialBegin] != 1 || seen[events.TrialEnd] != 1 || seen[events.Lost] != 0 {
		t.Errorf("events %v, the last %+v", seen, last.End)
	}
	// Every sample is told. The end of the trial gives them their final times.
	if n := seen[events.SampleTaken]; n != len(samples) || n < 30 {
		t.Errorf("%d samples are told of %d", n, len(samples))
	}
	for name, got := range map[string][]string{
		"boot,configure,read back,baseline,load,recovery,collect,destroy": stages,
		"first,second": phases, "begin,made,undo,undone": steps,
	} {
		if !slices.Equal(strings.Split(name, ","), got) {
			t.Errorf("want %s, got %q", name, got)
		}
	}
	// Second 0 of the samples is the time of day that the trial says.
	if early := trial.Started.Sub(run.Started); early < 0 || early.Seconds() > run.Seconds {
		t.Errorf("the load began %v after the run", early)
	}
}

// fetch returns the body of an address; empty where there is none.
func fetch(address string) string {
	answer, err := http.Get(address)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}

// TestWatch_Refusals: what cannot be watched is refused before anything boots.
func TestWatch_Refusals(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := os.MkdirAll(pipe, 0o700); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"is no loopback address":       {"--live=0.0.0.0:8080"},
		"is no address":                {"--live=somewhere"},
		"stdout takes one of them":     {"--events", "-", "--format", "json"},
		`--events: open`:               {"--events", pipe, "--driver", "netns"},
		`"127.0.0.1:1" is too much`:    {"--live", "127.0.0.1:1"},
		"no port from 0 (a free one) ": {"--live=127.0.0.1:99999"},
	} {
		o := ctload(t, time.Minute, append([]string{"run", "tracking-cost"}, args...)...)
		if o.status == statusOK || !strings.Contains(o.stderr, want) {
			t.Errorf("%q: exit status %d, %s", args, o.status, o.stderr)
		}
	}
}
