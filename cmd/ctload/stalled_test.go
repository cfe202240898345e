package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestStalledNode stops a node's agent for good in the middle of a long load: the trial ends long
// before the load would, and names the node.
func TestStalledNode(t *testing.T) {
	labtest.Need(t)
	const long = "experiment: long\nrecovery: 0s\nscenarios: {a: {}}\n" +
		"workload: [{generator: tcp, rate: 50/s, duration: 5m}]\n"
	for _, node := range []string{"dut", "client"} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "run")
			mark := "CTLOAD_TEST=" + out
			cmd := command(t, "run", experiment(t, long), "--driver", "netns", "--out", out)
			cmd.Env = append(os.Environ(), mark)
			var stdout, stderr hosttest.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if !hosttest.Poll(time.Minute, func() bool {
				return strings.Contains(stderr.String(), "s  load")
			}) {
				t.Fatalf("no load:\n%s", stderr.String())
			}
			var agents []process // the DUT's starts first
			for _, p := range marked(t, mark) {
				if strings.Contains(p.command, "ctload-agent") {
					agents = append(agents, p)
				}
			}
			if len(agents) != 2 {
				t.Fatalf("agents: %v", agents)
			}
			stopped := agents[0]
			if (stopped.pid < agents[1].pid) != (node == "dut") {
				stopped = agents[1]
			}
			if err := syscall.Kill(stopped.pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			o := wait(t, cmd, time.Minute, &stdout, &stderr)
			t.Logf("ended %.1f s after the stop", time.Since(began).Seconds())
			says := fmt.Sprintf("%s has been silent for 7s", node)
			if o.status != statusInvalid || !strings.Contains(o.stderr, says) {
				t.Errorf("exit status %d, want %d and %q\n%s", o.status, statusInvalid, says,
					o.stderr)
			}
			f, err := results.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			run, err := f.Load()
			if err != nil || run.Part("") != nil || len(run.Scenarios[0].Trials) != 1 {
				t.Errorf("the run: %+v, %v", run, err)
			}
			noneLeft(t, mark)
		})
	}
}
