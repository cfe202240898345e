package orchestrator

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/vagrant"
)

// TestReseed_Restored restores the machine of a box from one snapshot before each of two trials:
// its kernel draws other random numbers in each. Its emulated CPU has rdrand, without which it
// gathers entropy for a second.
func TestReseed_Restored(t *testing.T) {
	hosttest.NeedTime(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tell := func(text string) { t.Log(text) }
	box, err := vagrant.FindBox(t.Context(), vagrant.BuildBox, filepath.Join(cache, "ctload"), tell)
	if err != nil {
		t.Fatal(err)
	}
	inLab(t, func(t *testing.T) {
		draw := func(ctx context.Context, node vm.Node) (string, error) {
			text, err := node.Agent().ReadFile(ctx, "/proc/sys/kernel/random/uuid")
			return strings.TrimSpace(text), err
		}
		var dut vm.Node
		var restored, reseeded []string
		var cpu string
		run := play{
			text: `
experiment: restored
dut: {memory: 640MiB}
workload: [{generator: tcp, connections: 20, concurrency: 2}]
scenarios: {one: {}}
trials: 3
recovery: 100ms
`,
			box: &box,
			booted: func(ctx context.Context, node vm.Node) error {
				dut = node
				drawn, err := draw(ctx, dut)
				restored = append(restored, drawn)
				return err
			},
			joined: func(ctx context.Context, _ vm.Node) error { // the DUT is reseeded before
				drawn, err := draw(ctx, dut)
				reseeded = append(reseeded, drawn)
				if err == nil {
					cpu, err = dut.Agent().ReadFile(ctx, "/proc/cpuinfo")
				}
				return err
			},
		}.run(t)
		t.Logf("before: %q, after: %q", restored, reseeded)
		if n := len(run.Scenarios[0].Trials); n != 3 || len(reseeded) != 3 {
			t.Fatalf("%d trials, %d draws", n, len(reseeded))
		}
		if runtime.GOARCH == "amd64" && !slices.Contains(strings.Fields(cpu), "rdrand") {
			t.Errorf("the CPU has no rdrand:\n%s", cpu)
		}
		slices.Sort(reseeded)
		if len(slices.Compact(reseeded)) != 3 {
			t.Errorf("restores of one snapshot draw the same: %q", reseeded)
		}
	})
}
