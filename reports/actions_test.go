package reports

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// acted returns the fixture with a fault and a fix in its first trial, which healed it.
func acted() *results.Run {
	run := fixture()
	t := &run.Scenarios[0].Trials[0]
	t.Actions = []results.Action{
		{
			Name: "pause", Kind: "pause", Where: "dut", Asked: "paused", Begun: seconds(2),
			Ended: seconds(3),
		},
		{
			Name: "flush", Kind: "flush", Where: "dut", Asked: "all entries removed",
			Begun: seconds(3.5),
		},
		{
			Name: "max", Kind: "sysctl", Where: "dut", Asked: "nf_conntrack_max = 65536", Fix: true,
			Begun: seconds(4.5),
			Effects: []results.Effect{
				{Name: "net.netfilter.nf_conntrack_max", Before: "4096", After: "65536"},
			},
		},
		{Name: "late", Kind: "sysctl", Where: "dut", Asked: "nf_conntrack_max = 1"},
	}
	t.Heal = &results.Heal{
		Steady: []string{"probe.loss == 0"}, Deviated: seconds(4.2), Healed: seconds(4.8),
		SecondsToDeviate: seconds(2.2), SecondsToHeal: seconds(0.3), Refused: 3616, Failed: 904,
		ProbesLost: 6, Broken: 3,
	}
	return run
}

// TestFormatsOfActions: every format tells the actions, how soon the trial healed and what broke.
func TestFormatsOfActions(t *testing.T) {
	const sentence = "returned to it 0.30 s after the fix; meanwhile the kernel refused 3616 " +
		"packets, 904 attempts of the load failed and 6 probes were lost; 3 open connections broke"
	for format, want := range map[string][]string{
		"table": {
			"heal", "broken", sentence, "net.netfilter.nf_conntrack_max from 4096 to 65536",
			"late (nf_conntrack_max = 1): not performed, since the trial ended first",
		},
		"markdown": {"seconds to heal", "broken", sentence},
		"html":     {sentence, `"text":"pause"`, "broken"},
		"csv":      {"heal.seconds_to_heal", "heal.broken", "pause (paused) at 2.00 s for 1.00 s"},
		"json":     {`"seconds_to_heal": 0.3`, `"broken": 3`, `"ended_s": 3`},
		"junit":    {sentence},
	} {
		t.Run(format, func(t *testing.T) {
			page := render(t, format, acted(), Options{
				Width: 110, Series: sampled{600}, Verbose: true,
			})
			text := strings.Join(strings.Fields(string(page)), " ")
			for _, words := range want {
				if !strings.Contains(text, words) {
					t.Errorf("%q is missing:\n%s", words, text)
				}
			}
		})
	}
	// Without actions there are no columns for them.
	text := render(t, "table", fixture(), Options{Width: 110})
	if bytes.Contains(text, []byte("broken")) {
		t.Errorf("a run without actions has a column for what broke:\n%s", text)
	}
}

func TestTimeLineText(t *testing.T) {
	lines := []results.TimeLine{{
		Scenario: "max-raised", Steady: []string{"probe.loss == 0"},
		Points: []results.Point{
			{When: "0 s", What: "tcp from client to dut at 300/s, for 20s"},
			{
				When: "first drop + 10s",
				What: "max: nf_conntrack_max = 65536 (dut), a fix, until the end", Action: true,
			},
		},
	}}
	var b bytes.Buffer
	if err := TimeLine(&b, "table", lines, Options{Width: 60}); err != nil {
		t.Fatal(err)
	}
	want := `max-raised
  normal: probe.loss == 0
               0 s    tcp from client to dut at 300/s, for
                      20s
  first drop + 10s  * max: nf_conntrack_max = 65536 (dut), a
                      fix, until the end

Times count from the start of the load; * is an action. Nothing was booted.
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if err := TimeLine(&b, "json", lines, Options{}); err != nil ||
		!strings.Contains(b.String(), `"when": "first drop + 10s"`) {
		t.Errorf("%v: %s", err, &b)
	}
	if err := TimeLine(&b, "junit", lines, Options{}); err == nil {
		t.Error("a time line as junit is no error")
	}
}

// TestHTMLBands: the bands lie where the actions were, in the page as drawn, and follow a zoom.
func TestHTMLBands(t *testing.T) {
	var got struct {
		All, Zoomed [][]float64
		Fixes       []bool
		Painted     bool
	}
	browse(t, render(t, "html", acted(), Options{Series: sampled{600}}), "1200,900", `
document.getElementById("tabs").children[0].click();
for (let i = 0; i < 20; i++) await null; // uPlot draws in a microtask
const c = window.ctload, trial = c.open(c.scenarios[0], 0), u = c.plots()[1];
const place = (min, max) => bands.place(trial.actions, min, max).map(a => [a.from, a.to]);
const out = {all: place(-1, 100), zoomed: place(2.5, 4), fixes: trial.actions.map(a => !!a.fix)};
// What the chart shows, copied once: in the band it is not what it is beside it.
const copy = document.createElement("canvas");
copy.width = u.ctx.canvas.width; copy.height = u.ctx.canvas.height;
const ctx = copy.getContext("2d", { willReadFrequently: true });
ctx.drawImage(u.ctx.canvas, 0, 0);
const x = s => Math.round(u.valToPos(s, "x", true)), y = Math.round(u.bbox.top + 4);
const at = s => ctx.getImageData(x(s), y, 1, 1).data.join();
out.painted = at(2.55) !== at(1.55);
return out;`, &got)
	const last = 59.4 // the last of 600 samples
	if diff := cmp.Diff([][]float64{{2, 3}, {3.5, 3.5}, {4.5, last}}, got.All); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]float64{{2.5, 3}, {3.5, 3.5}}, got.Zoomed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]bool{false, false, true}, got.Fixes); diff != "" || !got.Painted {
		t.Errorf("%s, painted %v", diff, got.Painted)
	}
}

// fixes returns a run as that of emergency-fixes: what heals a full table under load, and what does
// not.
func fixes() *results.Run {
	run := fixture()
	run.Experiment = "emergency-fixes"
	run.Summary = "a full table under load: which fix heals it, how fast, and what it breaks"
	base := run.Scenarios[0].Trials[0]
	run.Scenarios = nil
	add := func(name, kind string, actions results.Asked, healed float64, broken int64) {
		t := base
		t.Seconds, t.Heal = 21, &results.Heal{
			Steady: []string{"probe.loss == 0"}, Deviated: seconds(3), SecondsToDeviate: seconds(3),
			Refused: 3616, Failed: 904, ProbesLost: 100, Broken: broken,
		}
		if kind != "" {
			t.Actions = []results.Action{{Name: name, Kind: kind, Fix: true, Begun: seconds(13)}}
		}
		if kind == "rules-load" {
			t.Rules = []results.RuleCount{{Effect: results.Untracks, After: 900}}
		}
		if healed > 0 {
			t.Heal.Healed, t.Heal.SecondsToHeal = seconds(13+healed), seconds(healed)
		}
		run.Scenarios = append(run.Scenarios, results.Scenario{
			Name: name, Actions: actions, Trials: []results.Trial{t},
		})
	}
	raised := results.Asked{{
		"action": "sysctl", "fix": true,
		"sysctl": map[string]any{"net.netfilter.nf_conntrack_max": 65536},
	}}
	add("no-fix", "", nil, 0, 0)
	add("max-raised", "sysctl", raised, 0.28, 0)
	add("max-and-hash", "buckets", raised, 0.31, 0)
	add("timeouts-shortened", "sysctl", nil, 0, 0)
	add("flushed", "flush", nil, 0, 0)
	add("time-wait-deleted", "delete", nil, 0, 0)
	add("notrack", "rules-load", nil, 0.1, 0)
	add("notrack-all", "rules-load", nil, 0.1, 20)
	add("modules-removed", "module-remove", nil, 0.05, 0)
	return run
}

// TestTable_FirstScreen: 24 lines of 80 columns have the ranks of all fixes and the lines to apply.
func TestTable_FirstScreen(t *testing.T) {
	text := render(t, "table", fixes(), Options{})
	golden(t, "table-fixes.txt", text)
	screen := strings.Join(strings.Split(string(text), "\n")[:24], "\n")
	for _, want := range []string{
		"max-raised          healed in 0.28 s", "notrack-all         healed in 0.10 s",
		"20 connections broke", "flushed             not healed in 8.00 s",
		"sudo sysctl -p /etc/sysctl.d/90-conntrack.conf",
	} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not in the first 24 lines:\n%s", want, screen)
		}
	}
}

// TestTable_FirstScreenOfVerdicts: whatever broke, 24 lines of 80 columns say what, the change that
// held, its cost and the first line to apply.
func TestTable_FirstScreenOfVerdicts(t *testing.T) {
	first := func(change func(*results.Trial)) *results.Run {
		run := fixture()
		trial := &run.Scenarios[0].Trials[0]
		trial.Conntrack.Counters = results.Counters{}
		trial.Conntrack.SecondsToFull, trial.Conntrack.LogLines = nil, 0
		trial.Conntrack.Peak = 2000
		change(trial)
		results.Judge(trial)
		return run
	}
	for verdict, run := range map[results.Verdict]*results.Run{
		results.TableFull: fixture(),
		results.Evicting: first(func(t *results.Trial) {
			t.Conntrack.Peak, t.Conntrack.EarlyDrop = 4096, 1200
			*t.Load = results.Load{Generator: "http", Attempts: load(0, 9, latency(3, 50, 80))}
			t.Entries["http"] = results.Entry{Kind: "http", Attempts: t.Load.Attempts}
		}),
		results.ChainTooLong: first(func(t *results.Trial) {
			t.Conntrack.InsertFailed, t.Conntrack.ChainTooLong = 904, 904
		}),
		results.Clash: first(func(t *results.Trial) { t.Conntrack.InsertFailed = 904 }),
		results.NATExhausted: first(func(t *results.Trial) {
			t.Conntrack.InsertFailed, t.Conntrack.Found = 904, 904*500
			t.Rules = []results.RuleCount{{Effect: results.Translates, After: 5000}}
		}),
		results.NotConntrack: first(func(*results.Trial) {}),
		results.DutDied: first(func(t *results.Trial) {
			t.Died = "Kernel panic - not syncing: System is deadlocked on memory"
		}),
	} {
		if got := run.Scenarios[0].Trials[0].Verdict; got != verdict {
			t.Errorf("the trial is %s and not %s", got, verdict)
		}
		lines := strings.Split(string(render(t, "table", run, Options{})), "\n")
		screen := strings.Join(strings.Fields(strings.Join(lines[:24], " ")), " ")
		c := results.Conclude(run)
		for _, want := range []string{
			"Broke baseline: " + c.Broke[0].Words[0], c.Answer, c.Cost, "Apply raised-max:",
			"sudo modprobe nf_conntrack",
		} {
			if !strings.Contains(screen, want) {
				t.Errorf("%s: %q is not in the first 24 lines:\n%s", verdict, want, screen)
			}
		}
	}
}
