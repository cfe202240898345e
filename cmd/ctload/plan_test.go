package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
)

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		args   string
		status int
		word   string
	}{
		{"--rate 2000 --residence 120s --memory 8GiB --kernel 6.1",
			statusOK, "net.netfilter.nf_conntrack_max = "},
		{"--rate 2000 --residence time_wait --memory 8GiB --kernel 6.1",
			statusOK, "full after                          132 s"},
		{"--rate 100 --residence udp_stream --memory 512MiB --kernel 4.19",
			statusOK, "full after                          164 s"},
		{"--rate 2000 --residence timewait", statusUsage, "time_wait"},
		{"--rate 2000 --residence 120", statusUsage, "120s"},
		{"table-full", statusOK, "baseline: a table that carries this load"},
		{"table-full --format json", statusOK, `"sysctl"`},
		{"table-ful", statusUsage, "table-full"},
		{"table-full --rate 5", statusUsage, "--rate"},
		{"--rate 500 --residence udp --rate 50 --residence time_wait --held 100 " +
			"--memory 512MiB --kernel 6.1", statusOK, "21,10"},
		{"--rate 500 --residence udp --rate 50", statusUsage, "there are 2 and 1"},
		{"--rate 5 --residence udp --held 100k --max 65536 --memory 8GiB --kernel 6.1",
			statusOK, "sustainable, new per second          5405          0"},
		{"--rate 5 --residence udp --buckets 300000000", statusUsage, "at most 268434944"},
		{"--rate 500 --residence time_wait --max 20000 --buckets 4096 --memory 8GiB --kernel 6.1",
			statusOK, "shorter timeouts would do: 500/s for"},
		{"--rate 900 --residence time_wait --nat-ports 64512 --memory 8GiB --kernel 6.1",
			statusOK, "NAT has 64,512 source ports"},
		{"--rate 20k --residence established --memory 1GiB --kernel 6.1", statusUsage, "need more"},
		{"--rate 1k --residence 1h --memory 1GiB --kernel 6.1", statusOK, "does not fit: full, it"},
		{"", statusUsage, "no load"},
	} {
		o := ctload(t, time.Minute, strings.Fields("plan "+tc.args)...)
		if o.status != tc.status || !strings.Contains(o.stdout+o.stderr, tc.word) {
			t.Errorf("plan %s: exit status %d, want %d and %q:\n%s%s",
				tc.args, o.status, tc.status, tc.word, o.stdout, o.stderr)
		}
	}
}

// TestPlan_Write: the experiment that a plan writes is valid, has both tables, and is not written
// over a file.
func TestPlan_Write(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	args := strings.Fields("plan --rate 2000 --residence 30s --rate 100 --residence time_wait " +
		"--held 1000 --nat-ports 64512 --memory 512MiB --kernel 6.1 --write " + file)
	if o := ctload(t, time.Minute, args...); o.status != statusOK {
		t.Fatalf("exit status %d:\n%s", o.status, o.stderr)
	}
	o := ctload(t, time.Minute, "plan", file, "--format", "json")
	for _, word := range []string{`"scenario": "present"`, `"scenario": "planned"`} {
		if o.status != statusOK || !strings.Contains(o.stdout, word) {
			t.Errorf("exit status %d without %s:\n%s%s", o.status, word, o.stdout, o.stderr)
		}
	}
	if o := ctload(t, time.Minute, args...); o.status == statusOK {
		t.Error("a second plan overwrote the file")
	}
}

// TestPlan_Verify runs the experiment of a plan, whose table holds while the present one does not.
func TestPlan_Verify(t *testing.T) {
	needsTime(t)
	labtest.Need(t)
	t.Chdir(t.TempDir())
	o := ctload(t, 5*time.Minute, strings.Fields("plan --rate 100 --residence 5s --max 300 "+
		"--buckets 512 --memory 512MiB --kernel 6.1 --verify")...)
	if o.status != statusOK || !strings.Contains(o.stdout, "2 of 2 thresholds held") {
		t.Errorf("exit status %d:\n%s%s", o.status, o.stdout, o.stderr)
	}
}
