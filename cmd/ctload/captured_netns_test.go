package main

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/capture/explain"
	hostcapture "github.com/ctload/ctload/capture/host"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// TestProductions_WhatIf asks the capture of a production what shorter timeouts would leave, makes
// the same change on the production, and finds that number of living entries there within 5 %.
func TestProductions_WhatIf(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	t.Cleanup(hosttest.SharesSettings(t))
	p := production{"dut:\n" + tracks + quick, `
  - {generator: tcp, rate: 200/s, ports: 80, sources: 20, lifetime: 500ms, duration: {S}}
  - {generator: udp, name: dns, rate: 100/s, ports: 53, sources: 5, duration: {S}}
`, false}
	const seconds = 16
	file := p.experiment(t, seconds, "  changed:\n    sysctl:\n"+
		"      net.netfilter.nf_conntrack_tcp_timeout_time_wait: 2\n"+
		"      net.netfilter.nf_conntrack_udp_timeout: 3\n")
	var before, want, living int64
	labtest.Repeat(t, func() (good bool) {
		table, _ := captured(t, file, seconds*time.Second, "--scenario", "as-is")
		o := ctload(t, time.Minute, "plan", table, "--set", "tcp_timeout_time_wait=2",
			"--set", "udp_timeout=3", "--format", "json")
		var changes []explain.Change
		if err := json.Unmarshal([]byte(o.stdout), &changes); err != nil || o.status != statusOK {
			t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
		}
		together := changes[len(changes)-1]
		if together.Kind != explain.ChangeTogether || together.Leaves == nil {
			t.Fatalf("%s", o.stdout)
		}
		after, _ := captured(t, file, seconds*time.Second, "--scenario", "changed")
		before, want = readCapture(t, table).Table.Whole, *together.Leaves
		living = readCapture(t, after).Table.Whole
		t.Logf("%d living entries, %d predicted with the change, %d found", before, want, living)
		// A stalled load has fewer entries, before or after.
		return math.Abs(float64(living-want)) <= 0.05*float64(want)
	})
	if off := math.Abs(float64(living-want)) / float64(want); off > 0.05 || before < want*3/2 {
		t.Errorf("%d living entries with the change, %d predicted (%.1f %% off), %d without it",
			living, want, 100*off, before)
	}
}

// TestProductions_AtMax captures a table at its limit, which is this host's, says that what was
// refused is not in it, and meets the same limit in an emulated machine of another size.
func TestProductions_AtMax(t *testing.T) {
	labtest.Need(t)
	hosttest.NeedTime(t)
	t.Cleanup(hosttest.SharesSettings(t))
	limit := hostMax(t)
	const seconds, udpTimeout = 30, 15
	rate := strconv.Itoa(limit * 5 / 4 / udpTimeout)
	p := production{"dut:\n" + tracks + strings.Replace(quick, "_udp_timeout: 5",
		"_udp_timeout: "+strconv.Itoa(udpTimeout), 1), `
  - {generator: udp, name: flood, rate: ` + rate + `/s, silent: true, crafted: true,
     sources: 60000, ports: 6881, duration: {S}, role: hostile}
  - {generator: tcp, name: users, rate: 30/s, ports: 443, sources: 5, {T}}
`, false}
	table, run := captured(t, p.experiment(t, seconds), seconds*time.Second, labtest.Retries)
	o := ctload(t, time.Minute, "explain", table, "--format", "json")
	x := new(explain.Explanation)
	if err := json.Unmarshal([]byte(o.stdout), x); err != nil {
		t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
	}
	codes := map[explain.Code]bool{}
	for _, f := range x.Findings {
		codes[f.Code] = true
		t.Log(f.Sentence)
	}
	if !codes[explain.TableEvicts] && !codes[explain.TableRefuses] ||
		!codes[explain.RatesAreLowBounds] || len(x.Unknowable) == 0 {
		t.Errorf("a table at max is not explained as one: %v", codes)
	}
	const size = 8192 // of the table in the machine
	o = ctload(t, time.Minute, "scenarios", "from-capture", table,
		"--scale", strconv.Itoa(limit/size))
	if o.status != statusOK {
		t.Fatalf("%s", o.stderr)
	}
	again := ctload(t, 5*time.Minute, "run", experiment(t, o.stdout), "--scenario", "as-captured",
		"--format", "json", "--out", t.TempDir()+"/run", labtest.Retries)
	if again.status != statusOK {
		t.Errorf("exit status %d\n%s\n%s", again.status, again.stderr, o.stdout)
	}
	sameOutcome(t, run, decode(t, again.stdout), o.stdout)
}

// hostMax returns the largest number of entries that this host's tables may have.
func hostMax(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	const most = 1 << 19 // what a namespace is filled with in some seconds
	if err != nil || n > most {
		hosttest.Skip(t, "the host's limit of entries is %s", text)
	}
	return n
}

// TestCapture_UnderArrivals captures a table that is full of a flood and to which more comes than
// it has room for: by the kernel's counters nothing was refused, so that the capture kept neither
// buckets nor entries from the kernel.
func TestCapture_UnderArrivals(t *testing.T) {
	labtest.Need(t)
	hosttest.NeedTime(t)
	t.Cleanup(hosttest.SharesSettings(t))
	limit := hostMax(t)
	p := production{"dut:\n" + tracks + quick, `
  - {generator: udp, name: flood, rate: 100000/s, silent: true, crafted: true,
     sources: 60000, ports: 6881, duration: {S}, role: hostile}
`, false}
	const seconds = 14
	// What arrives is no matter of time: a host that is too slow for the rate counts as well.
	table, run := captured(t, p.experiment(t, seconds), seconds*time.Second, "--retries", "0")
	c := run.Scenarios[0].Trials[0].Conntrack
	t.Logf("drop %d, insert_failed %d, early_drop %d", c.Drop, c.InsertFailed, c.EarlyDrop)
	if c.Drop != 0 || c.InsertFailed != 0 || c.EarlyDrop == 0 || c.Peak < int64(limit)*99/100 {
		t.Errorf("drop %d, insert_failed %d, early_drop %d, peak %d of %d", c.Drop, c.InsertFailed,
			c.EarlyDrop, c.Peak, limit)
	}
	if n := len(readCapture(t, table).Table.Entries); n != hostcapture.DefaultEntries {
		t.Errorf("%d entries", n)
	}
}
