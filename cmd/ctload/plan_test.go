package main

import (
	"strings"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		word   string
	}{
		{[]string{"--rate", "2000", "--residence", "120s", "--memory", "8GiB", "--kernel", "6.1"}, statusOK, "net.netfilter.nf_conntrack_max = "},
		{[]string{"table-full"}, statusOK, "baseline, shortened-timeouts: a table that carries this load"},
		{[]string{"table-full", "--format", "json"}, statusOK, `"sysctl"`},
		{[]string{"table-ful"}, statusUsage, "table-full"},
		{[]string{"table-full", "--rate", "5"}, statusUsage, "--rate"},
		{nil, statusUsage, "no load"},
	} {
		o := ctload(t, time.Minute, append([]string{"plan"}, tc.args...)...)
		if o.status != tc.status || !strings.Contains(o.stdout+o.stderr, tc.word) {
			t.Errorf("plan %q: exit status %d, want %d and %q:\n%s%s", tc.args, o.status, tc.status, tc.word, o.stdout, o.stderr)
		}
	}
}
