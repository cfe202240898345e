package main

import (
	"math"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// tracked is a DUT that tracks every packet and refuses none by a rule.
const tracked = `
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
`

// TestTruths runs loads whose outcome follows from the kernel's own rules (nf_conntrack_core.c) and
// compares figures and verdicts with it. The scenarios of one experiment share a workload; each
// boots a guest of its own.
func TestTruths(t *testing.T) {
	needsLab(t)
	type truth struct {
		verdict results.Verdict
		also    []results.Verdict // one of them
		check   func(testing.TB, results.Trial)
	}
	none, evicting := []results.Verdict{""}, []results.Verdict{results.Evicting}
	for _, tc := range []struct {
		name, text string
		truths     map[string]truth
		long       bool // it runs in make test-long
	}{
		{
			name: "unreplied datagrams",
			text: `
experiment: datagrams
dut:` + tracked + `
workload:
  - {generator: udp, flows: 10000, rate: 4000/s, silent: true, slack: 5s}
recovery: 4s # an emulated guest may have a backlog then
scenarios:
  few-in-many-buckets: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 65536}
  few-in-few-buckets: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 2048}
  from-strangers:
    sysctl: {net.netfilter.nf_conntrack_udp_timeout: 600}
    workload: {udp: {flows: 2000, crafted: true, sources: 2000}}
`,
			truths: map[string]truth{
				"few-in-many-buckets": {results.TableFull, evicting, checkDropsAndEvictions},
				"few-in-few-buckets":  {results.Evicting, none, checkEvictionsAlone},
				"from-strangers":      {results.Clean, none, checkStrangers},
			},
		},
		{
			name: "long chains",
			text: `
experiment: chains
dut:
  memory: 1GiB` + tracked + `
workload:
  - {generator: udp, flows: 20000, rate: 2000/s, silent: true}
recovery: 6s # an emulated guest has a backlog then
scenarios:
  tiny-hash: {sysctl: {net.netfilter.nf_conntrack_max: 200000}, buckets: 512}
`,
			truths: map[string]truth{"tiny-hash": {results.ChainTooLong, none, checkLongChains}},
		},
		{
			name: "held handshakes", long: true,
			text: `
experiment: held
sampling: 100/s
dut:` + tracked + `
workload:
  - {generator: hold, connections: 2200, rate: 250/s, duration: 3s, timeout: 6s, slack: 5s}
recovery: 1s
scenarios:
  full: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 2048}
`,
			truths: map[string]truth{
				"full": {results.TableFull, append(none, evicting...), checkHeldHandshakes},
			},
		},
		{
			name: "nothing tracked",
			text: `
experiment: blameless
dut: {memory: 256MiB}
workload:
  - {generator: http, requests: 100, concurrency: 20}
recovery: 1s
scenarios:
  no-rule: {modules: {load: [nf_conntrack]}}
`,
			truths: map[string]truth{"no-rule": {results.Clean, none, checkNothingTracked}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.long {
				hosttest.NeedTime(t)
			}
			t.Parallel()
			file := experiment(t, tc.text)
			judgeMeasured(t, file, func(t testing.TB, name string, m measured) {
				want, trial := tc.truths[name], m.trial
				t.Logf("%s: %s", name, trial.Sentence)
				if trial.Verdict != want.verdict || !slices.Contains(want.also, trial.Also) {
					t.Errorf("%s: verdict %s + %s, want %s + one of %q",
						name, trial.Verdict, trial.Also, want.verdict, want.also)
				}
				want.check(t, trial)
				agreesWithGuest(t, m.run, trial)
			})
		})
	}
}

func checkDropsAndEvictions(t testing.TB, trial results.Trial) {
	c := trial.Conntrack
	// An eviction takes all entries of a bucket, so that the last one may leave the table below its
	// max.
	if c.Drop == 0 || c.EarlyDrop == 0 || c.Drop+c.EarlyDrop+c.Final != 10000 {
		t.Errorf("drop %d + early_drop %d, want both, and 10000 with the %d that are left",
			c.Drop, c.EarlyDrop, c.Final)
	}
	// Evictions may keep the first full samples below the highest shares.
	if a := c.Alerts; len(a) != len(results.AlertShares) || a[0].Lead == nil ||
		*a[0].Lead < *a[3].Lead || *a[0].Lead < 0 {
		t.Errorf("alerts %+v, want all in order, the first one before the first drop", a)
	}
	if p := trial.Prediction; math.Abs(float64(c.Drop)/float64(p.Drop)-1) > 0.1 {
		t.Errorf("%d were dropped, %d were predicted", c.Drop, p.Drop)
	}
	// An independent check: no rule drops here, so that the reason is conntrack's.
	if n := trial.Stack.DropReasons["NETFILTER_DROP"]; n != c.Drop {
		t.Errorf("drop %d, and the kernel freed %d packets as NETFILTER_DROP %s",
			c.Drop, n, trial.Stack.DropReasonsMissing)
	}
}

func checkEvictionsAlone(t testing.TB, trial results.Trial) {
	c, held := trial.Conntrack, trial.Contents
	if c.Drop != 0 || c.LogLines != 0 || c.EarlyDrop < 7900 {
		t.Errorf("drop %d, %d log lines, early_drop %d; want 0, 0 and about 8000",
			c.Drop, c.LogLines, c.EarlyDrop)
	}
	state := results.StateCount{Protocol: "udp", State: "UNREPLIED", Entries: held.Entries}
	source := results.SourceCount{Address: "10.77.0.2", Entries: held.Entries}
	if held.Entries < 1900 || !slices.Contains(held.States, state) ||
		!slices.Contains(held.Sources, source) || held.SlabBytes < 256*held.Entries {
		t.Errorf("the table held %+v, want about 2000 unreplied ones of the client", held)
	}
	if !slices.Contains(trial.Modules, "nf_conntrack") || trial.CPU.SoftIRQ == 0 {
		t.Errorf("modules %q, CPU time %+v", trial.Modules, trial.CPU)
	}
}

func checkStrangers(t testing.TB, trial results.Trial) {
	held := trial.Contents
	state := results.StateCount{Protocol: "udp", State: "UNREPLIED", Entries: 2000}
	offered, peak := trial.Load.Offered, trial.Prediction.Peak
	if offered != 2000 || peak != 2000 || !slices.Contains(held.States, state) {
		t.Errorf("%d offered, %d entries predicted, the table held %+v; want 2000 each",
			offered, peak, held)
	}
	strangers := netip.MustParsePrefix("198.18.0.0/15")
	if len(held.Sources) < 2 || slices.ContainsFunc(held.Sources, func(s results.SourceCount) bool {
		return s.Entries > 500 || !strangers.Contains(netip.MustParseAddr(s.Address))
	}) {
		t.Errorf("most entries came from %+v, want a part each from many of %s",
			held.Sources, strangers)
	}
}

func checkLongChains(t testing.TB, trial results.Trial) {
	c := trial.Conntrack
	if c.InsertFailed == 0 || c.ChainTooLong == 0 || c.Drop != 0 {
		t.Errorf("insert_failed %d, chain_toolong %d, drop %d; want both of the first and no drop",
			c.InsertFailed, c.ChainTooLong, c.Drop)
	}
}

func checkHeldHandshakes(t testing.TB, trial results.Trial) {
	// A handshake under way, for longer on a busy host, may lose its entry to another; its client
	// may have had its answer by then.
	l, evicted := trial.Load, trial.Conntrack.EarlyDrop
	if l.Done() < 2000 || l.Done() > 2000+evicted || l.Done()+l.Failed != 2200 {
		t.Errorf("completed %d, failed %d %v, evicted %d; want 2000 and 200, "+
			"or as many more completed as evicted", l.Done(), l.Failed, l.Causes, evicted)
	}
	// The 200 that did not fit tried several times, and most found nothing to evict: the entries
	// that fill the table are ASSURED.
	if evicted > trial.Conntrack.Drop || (evicted > 0) != (trial.Also == results.Evicting) {
		t.Errorf("early_drop %d, drop %d, second verdict %q",
			evicted, trial.Conntrack.Drop, trial.Also)
	}
	// The sampler is asked for 100 a second instead of the usual ten; an emulated guest on a busy
	// host manages fewer.
	rate := float64(trial.Conntrack.Samples) / (trial.Seconds + 1)
	if rate < 12 || rate > 130 {
		t.Errorf("%.0f samples a second, want 12 to 130", rate)
	}
}

func checkNothingTracked(t testing.TB, trial results.Trial) {
	if trial.Conntrack.Peak != 0 || !strings.Contains(trial.Sentence, "nothing was tracked") {
		t.Errorf("peak %d: %s", trial.Conntrack.Peak, trial.Sentence)
	}
}

// TestGeneratorShortOfDescriptors gives the generator fewer descriptors than the load needs.
func TestGeneratorShortOfDescriptors(t *testing.T) {
	needsLab(t)
	path := labtest.Ctload(t)
	text := `
experiment: descriptors
dut:
  memory: 256MiB` + tracked + `
workload:
  - {generator: hold, connections: 600, rate: 300/s, duration: 1s}
recovery: 1s
scenarios:
  one: {}
`
	cmd := exec.Command("sh", "-c", `ulimit -n 500 && exec "$0" run "$1" --format json`, path,
		experiment(t, text))
	cmd.Dir = t.TempDir()
	o := finish(t, cmd, 5*time.Minute)
	if o.status != statusInvalid || !strings.Contains(o.stdout, "descriptors") {
		t.Errorf("exit status %d, want %d and a word about descriptors:\n%s\n%s",
			o.status, statusInvalid, o.stdout, o.stderr)
	}
}
