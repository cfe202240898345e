package main

import (
	"strings"
	"testing"
	"time"
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
		{"table-full", statusOK, "baseline, shortened-timeouts: a table that carries this load"},
		{"table-full --format json", statusOK, `"sysctl"`},
		{"table-ful", statusUsage, "table-full"},
		{"table-full --rate 5", statusUsage, "--rate"},
		{"", statusUsage, "no load"},
	} {
		o := ctload(t, time.Minute, strings.Fields("plan "+tc.args)...)
		if o.status != tc.status || !strings.Contains(o.stdout+o.stderr, tc.word) {
			t.Errorf("plan %s: exit status %d, want %d and %q:\n%s%s",
				tc.args, o.status, tc.status, tc.word, o.stdout, o.stderr)
		}
	}
}
