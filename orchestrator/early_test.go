package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// orderedLab records when machines boot, join their links and end. Its machines have no agent.
type orderedLab struct {
	brokenLab
	booting chan struct{} // closed by the boot of a machine that waits for its links

	mu     sync.Mutex
	events []string
	boots  int
}

func (l *orderedLab) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, fmt.Sprintf(format, args...))
}

func (l *orderedLab) Boot(ctx context.Context, m vm.Machine) (vm.Node, error) {
	l.mu.Lock()
	l.boots++
	node := &orderedNode{lab: l, number: l.boots}
	l.mu.Unlock()
	l.note("boot %d", node.number)
	if m.Linked != nil {
		close(l.booting)
		select {
		case <-m.Linked:
		case <-ctx.Done():
			l.note("end %d", node.number)
			return nil, context.Cause(ctx)
		}
	}
	l.note("join %d", node.number)
	return node, nil
}

type orderedNode struct {
	lab    *orderedLab
	number int
}

func (n *orderedNode) Name() string         { return wiring.DUT }
func (n *orderedNode) Agent() *agent.Client { return nil }
func (n *orderedNode) Console() string      { return "" }

func (n *orderedNode) Close() error {
	n.lab.note("end %d", n.number)
	return nil
}

// earlyQueue returns the queue of a run whose first trial is under way in the lab, and that trial.
func earlyQueue(t *testing.T, lab *orderedLab, early bool) (*queue, *trial) {
	t.Helper()
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	plan := planned(t, threeScenarios)
	for i := range plan.Scenarios {
		plan.Scenarios[i].DUT.VCPUs = 0 // so that a host of one CPU holds two
	}
	job := Job{Plan: plan, View: &silent{}, Folder: folder}
	r := Request{Job: job, Lab: lab, EarlyBoot: early}
	q := newQueue(r, newRun(r), nil)
	slot, _, err := q.next()
	if err != nil {
		t.Fatal(err)
	}
	first, err := q.begin(slot, lab, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.dut, err = lab.Boot(t.Context(), first.machine(slot, first.folder)); err != nil {
		t.Fatal(err)
	}
	return q, first
}

// TestEarlyBoot_JoinsAfterTheTrialBefore has a DUT boot during the trial before, and join its links
// only once that trial has ended.
func TestEarlyBoot_JoinsAfterTheTrialBefore(t *testing.T) {
	lab := &orderedLab{booting: make(chan struct{})}
	q, first := earlyQueue(t, lab, true)
	dut, err := q.bootEarly(t.Context(), lab, first.slot)
	if err != nil || dut == nil {
		t.Fatalf("no early boot: %v, %v", dut, err)
	}
	<-lab.booting
	if err := first.destroy(); err != nil {
		t.Fatal(err)
	}
	slot, _, err := q.next()
	if err != nil {
		t.Fatal(err)
	}
	second, err := q.begin(slot, lab, dut)
	if err != nil {
		t.Fatal(err)
	}
	if second.dut, err = second.early.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"boot 1", "join 1", "boot 2", "end 1", "join 2"}
	if !slices.Equal(lab.events, want) {
		t.Errorf("%q, want %q", lab.events, want)
	}
	name := fmt.Sprintf("%s-%d", second.scenario.Name, slot.Number)
	if filepath.Base(second.folder.Name()) != name {
		t.Errorf("the second trial has the folder %s", second.folder.Name())
	}
}

// TestEarlyBoot_Abandoned has a run end while the next DUT boots: neither the machine nor the
// trial's folder stays.
func TestEarlyBoot_Abandoned(t *testing.T) {
	lab := &orderedLab{booting: make(chan struct{})}
	q, first := earlyQueue(t, lab, true)
	dut, err := q.bootEarly(t.Context(), lab, first.slot)
	if err != nil {
		t.Fatal(err)
	}
	<-lab.booting
	if err := dut.abandon(); err != nil {
		t.Error(err)
	}
	if got := lab.events[len(lab.events)-1]; got != "end 2" {
		t.Errorf("the last event is %q, want the end of machine 2", got)
	}
	if _, err := os.Stat(dut.folder.File(".")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the trial is left: %v", err)
	}
}

// TestEarlyBoot_InterruptedWhileTaken ends a run while a trial waits for its early DUT.
func TestEarlyBoot_InterruptedWhileTaken(t *testing.T) {
	lab := &orderedLab{booting: make(chan struct{})}
	q, first := earlyQueue(t, lab, true)
	dut, err := q.bootEarly(t.Context(), lab, first.slot)
	if err != nil {
		t.Fatal(err)
	}
	<-lab.booting
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dut.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the interrupt", err)
	}
}

// TestEarlyBoot_OnlyWhereItCan boots no second DUT where the lab ignores Linked, or no trial is
// left.
func TestEarlyBoot_OnlyWhereItCan(t *testing.T) {
	lab := &orderedLab{booting: make(chan struct{})}
	q, first := earlyQueue(t, lab, false)
	if dut, err := q.bootEarly(t.Context(), lab, first.slot); dut != nil || err != nil {
		t.Errorf("in a lab that cannot: %v, %v", dut, err)
	}
	q, first = earlyQueue(t, lab, true)
	q.open = nil
	if dut, err := q.bootEarly(t.Context(), lab, first.slot); dut != nil || err != nil {
		t.Errorf("after the last trial: %v, %v", dut, err)
	}
}

// TestHostHolds compares the needs of two DUTs with this host's resources.
func TestHostHolds(t *testing.T) {
	plan := planned(t, threeScenarios)
	r := Request{Job: Job{Plan: plan}}
	for name, change := range map[string]func(){
		"CPUs":   func() { plan.Scenarios[1].DUT.VCPUs = 4096 },
		"memory": func() { plan.Scenarios[1].DUT.Memory = 1 << 50 },
	} {
		before := plan.Scenarios[1]
		change()
		if r.hostHolds(Slot{Scenario: 0}, Slot{Scenario: 1}) {
			t.Errorf("this host is said to have the %s of two DUTs", name)
		}
		plan.Scenarios[1] = before
	}
}
