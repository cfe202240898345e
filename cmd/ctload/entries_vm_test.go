package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// relay is a server whose connections few sources hold, and the rule that limits each of them.
const relay = `
experiment: relay
topology: {kind: server, clients: 2}
dut:
  memory: 256MiB
  kernel: %KERNEL%
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
%TABLE%
workload:
  - {generator: hold, name: attacker, role: hostile, from: client1, connections: 600, rate: 300/s,
     sources: 20, duration: 3s, ports: 9001, timeout: 3s}
  - {generator: http, name: users, from: client2, rate: 30/s, duration: 5s, timeout: 3s}
  - {probe: tcp, name: ssh-login, from: client2, port: 22, rate: 5/s}
scenarios:
  open: {}
  limited:
    rules: |
      *filter
      -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
      -A INPUT -p tcp --syn --dport 9001 -m connlimit --connlimit-above 4 -j DROP
      COMMIT
%SILENT%
recovery: {at-least: 1s, at-most: 1s}
`

// relayOn returns the experiment for a kernel, with a table of its own and further scenarios.
func relayOn(kernel, table, scenarios string) string {
	return strings.NewReplacer("%KERNEL%", kernel, "%TABLE%\n", table, "%SILENT%\n", scenarios).
		Replace(relay)
}

// limits checks a trial in which a rule limits the attacker to 4 connections from each of its 20
// sources, and no other client.
func limits(t testing.TB, trial results.Trial) {
	t.Helper()
	t.Log(trial.Sentence)
	attacker, users := trial.Entries["attacker"], trial.Entries["users"]
	if trial.Verdict != results.Clean || trial.Accounting.Failed != 0 {
		t.Errorf("%s, %d failed that are not the attacker's",
			trial.Verdict, trial.Accounting.Failed)
	}
	if attacker.Role != results.Hostile || attacker.Failed != 520 || attacker.Done() != 80 ||
		attacker.Causes[results.CauseTimeout] != 520 {
		t.Errorf("attacker: %+v", attacker)
	}
	if users.Done() != 150 || users.Failed != 0 || users.Latency.Count != 150 ||
		users.Latency.Max >= 3000 {
		t.Errorf("users: %+v", users)
	}
	if l := trial.Load; l == nil || l.Unit != "requests" || l.Offered != 150 || l.Done() != 150 {
		t.Errorf("the load is not that of the users: %+v", l)
	}
	if p := trial.Probes["ssh-login"]; p.Sent < 20 || p.Lost != 0 || p.From != "client2" {
		t.Errorf("bystander: %+v", p)
	}
}

// TestEntries_Netns limits an attacker beside users: its failures are its own, thresholds name an
// entry, and the samples have each of them.
func TestEntries_Netns(t *testing.T) {
	labtest.Need(t)
	text := relayOn("host", "", "") + `
thresholds:
  open: [entries.attacker.completed <= 80]
  all: [entries.users.failed == 0, 'probes["ssh-login"].loss == 0']
`
	o, folder := measuredRun(t, 3*time.Minute, experiment(t, text), "--driver", "netns")
	const failed = "FAILED open: entries.attacker.completed <= 80 " +
		"(trial 1: entries.attacker.completed = 600)"
	if o.status != statusFailed || !strings.Contains(o.stderr, failed) ||
		strings.Count(o.stderr, "FAILED") != 1 {
		t.Fatalf("exit status %d\n%s", o.status, o.stderr)
	}
	run := decode(t, o.stdout)
	limits(t, run.Scenarios[1].Trials[0])
	if c := results.Conclude(run); c.Scenario != "limited" {
		t.Errorf("to apply: %q: %s", c.Scenario, c.Answer)
	}
	samples, err := os.ReadFile(filepath.Join(folder, run.Scenarios[1].Trials[0].Folder,
		results.FileSamples))
	if err != nil {
		t.Fatal(err)
	}
	const last = `"attacker":{"offered":600,"done":80,"failed":520}`
	if !strings.Contains(string(samples), last) {
		t.Errorf("%s is not in the samples", last)
	}
}

// TestEntries_Table has the attacker fill a table, then a rule limit it, then datagrams without
// answers at a full table.
func TestEntries_Table(t *testing.T) {
	needsTime(t)
	needsLab(t)
	text := relayOn("debian/bookworm", `
  sysctl: {net.netfilter.nf_conntrack_max: 400}
  buckets: 512
`, `
  silent:
    sysctl: {net.netfilter.nf_conntrack_max: 200}
    workload:
      - {generator: hold, connections: 200, rate: 200/s, duration: 4s, timeout: 3s}
      - {generator: udp, flows: 400, rate: 400/s, silent: true, start: 2s}
      - {probe: tcp, port: 22, rate: 5/s}
`)
	file := experiment(t, text)
	labtest.Twice(t, func(try testing.TB) { judgeTable(try, measuredTrials(t, file)) })
}

// judgeTable checks the trials of TestEntries_Table.
func judgeTable(t testing.TB, trials map[string]measured) {
	t.Helper()
	limits(t, trials["limited"].trial)
	open, silent := trials["open"].trial, trials["silent"].trial
	t.Logf("open: %s\nsilent: %s", open.Sentence, silent.Sentence)
	if open.Verdict != results.TableFull || open.Entries["attacker"].Failed == 0 {
		t.Errorf("open: %s, attacker %+v", open.Verdict, open.Entries["attacker"])
	}
	run := &results.Run{Scenarios: []results.Scenario{
		{Name: "open", Trials: []results.Trial{open}},
		{Name: "limited", Trials: []results.Trial{trials["limited"].trial}},
	}}
	if c := results.Conclude(run); c.Scenario != "limited" {
		t.Errorf("to apply: %q: %s", c.Scenario, c.Answer)
	}
	hold, udp := silent.Entries["hold"], silent.Entries["udp"]
	drops := silent.Conntrack.Drop
	if silent.Verdict != results.TableFull || udp.Completed != nil || udp.Done() != 400 ||
		udp.Failed != 0 || hold.Sent != nil || hold.Done()+hold.Failed != 200 ||
		drops < 400-(200-hold.Done()) {
		t.Errorf("silent: %s, %d dropped, hold %+v, udp %+v", silent.Verdict, drops, hold, udp)
	}
	if silent.Load != nil {
		t.Errorf("connections and flows are added: %+v", silent.Load)
	}
	const words = "all 400 flows of udp were sent, since the sender does not see what the DUT " +
		"refuses"
	if !strings.Contains(silent.Sentence, words) || strings.Contains(silent.Sentence, "600") {
		t.Errorf("%q is not in: %s", words, silent.Sentence)
	}
}
