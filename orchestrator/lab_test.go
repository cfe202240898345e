package orchestrator

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
	"github.com/ctload/ctload/vm/vagrant"
)

// enterRole runs the test binary as the caller of a sandbox; its arguments are those of the test
// inside.
const enterRole = "ctload-enter-lab"

// TestMain lets the test binary act as ctload under its other names, except as the guest's init.
func TestMain(m *testing.M) {
	labtest.Main(m, map[string]func() int{
		agent.ChildRole:        agent.RunChild,
		agent.StdioRole:        agent.RunStdio,
		link.HelperRole:        link.RunHelper,
		sandbox.SupervisorRole: sandbox.Supervise,
		sandbox.CheckRole:      sandbox.RunCheck,
		enterRole:              enterSandbox,
	})
}

func enterSandbox() int {
	give := sandbox.Handover{}
	if cache, err := os.UserCacheDir(); err == nil {
		if folder, err := os.Open(filepath.Join(cache, "ctload")); err == nil {
			give.Writable = append(give.Writable, folder)
		}
	}
	status, err := sandbox.Run(context.Background(), os.Args[1:], give)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// programs lists the packages of what runs in guests or beside them: ctload, and tools of this
// package's tests.
var programs = []string{
	"cmd/ctload", "orchestrator/testdata/race", "orchestrator/testdata/clockrate",
	"orchestrator/testdata/asker",
	"orchestrator/testdata/owner",
}

// inLab runs play in a sandbox, where labs can be made: outside it starts the test binary again,
// with this test alone, and reports the result.
func inLab(t *testing.T, play func(t *testing.T)) {
	t.Helper()
	if sandbox.Inside() {
		play(t)
		return
	}
	labtest.Need(t)
	t.Parallel() // a trial mostly waits
	if out := again(t, "-test.run=^"+t.Name()+"$", "-test.v",
		"-test.timeout=30m"); !strings.Contains(out, "--- PASS: "+t.Name()) {
		t.Fatal("the test did not run in the sandbox")
	}
}

// again starts the test binary in a sandbox with these arguments and returns its output.
func again(t testing.TB, args ...string) string {
	t.Helper()
	// The sandbox has no compiler and no network.
	for _, source := range programs {
		labtest.Program(t, source)
	}
	if _, err := new(guest.Store).Kernel(t.Context(), scenarios.DefaultKernel); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0] = enterRole
	cmd.Env = labtest.Environ(t)
	// The sandbox ends when the process that made it does; that process must end with this one.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	t.Logf("in the sandbox:\n%s", out)
	if err != nil {
		t.Fatalf("in the sandbox: %v", err)
	}
	return string(out)
}

// stage lets a test act during a trial: it knows the current trial's DUT, and receives its samples.
type stage struct {
	vm.Lab
	t testing.TB

	booted func(context.Context, vm.Node) error // called on a booted machine, or nil
	joined func(context.Context, vm.Node) error // likewise on a load node

	// when reports by a sample of the load that it is time to act; act then runs, once in a run.
	when func(results.Sample) bool
	act  func(ctx context.Context, dut, client vm.Node) error

	mu      sync.Mutex
	dut     vm.Node
	client  vm.Node // the first client
	loading bool
	acted   bool
	acting  sync.WaitGroup
	failure error // of the action
}

// Boot remembers the machine.
func (s *stage) Boot(ctx context.Context, machine vm.Machine) (vm.Node, error) {
	node, err := s.Lab.Boot(ctx, machine)
	if err == nil && s.booted != nil {
		err = s.booted(ctx, node)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dut = node
	return node, err
}

// Join remembers the first client.
func (s *stage) Join(ctx context.Context, load vm.LoadNode) (vm.Node, error) {
	node, err := s.Lab.Join(ctx, load)
	if err == nil && s.joined != nil {
		err = s.joined(ctx, node)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if load.Name == "client" {
		s.client = node
	}
	return node, err
}

// Take logs what happens, and acts when it is time.
func (s *stage) Take(e events.Event) {
	switch e.Kind {
	case events.TrialBegin:
		s.t.Logf("trial %d of %d: %s-%d", e.Index, e.Total, e.Scenario, e.Trial)
	case events.Noted:
		s.t.Log(e.Note)
	case events.TrialEnd:
		s.t.Logf("%s: %s", e.Result.Verdict, e.Result.Sentence)
	case events.StageBegin:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.loading = e.Stage.Name == stageLoad
	case events.SampleTaken:
		s.sampled(*e.Sample)
	}
}

// sampled acts when it is time. The action has a goroutine of its own, so that samples continue.
func (s *stage) sampled(sample results.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.act == nil || s.acted || !s.loading || sample.Seconds < 0 || !s.when(sample) {
		return
	}
	s.acted = true
	dut, client := s.dut, s.client
	s.acting.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.failure = s.act(ctx, dut, client)
	})
}

// play is an experiment, the actions on its DUT meanwhile, and what its guests need for them.
type play struct {
	text  string
	order []Slot       // of the trials; nil: as planned
	box   *vagrant.Box // of the DUT, or nil
	// retries limits the further attempts of a trial that the host spoils.
	retries int
	booted  func(context.Context, vm.Node) error // see stage
	joined  func(context.Context, vm.Node) error
	when    func(results.Sample) bool
	act     func(ctx context.Context, dut, client vm.Node) error
	tools   []string                       // of the host, for the guest
	look    func(samples []results.Sample) // called with the samples of the first trial, or nil
}

// request returns the experiment as a [Request], in a lab of its own as Job.Run opens it.
func (p play) request(t testing.TB) Request {
	t.Helper()
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(file, []byte(p.text), 0o600); err != nil {
		t.Fatal(err)
	}
	experiment, _, err := scenarios.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(experiment, 1)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Retries = p.retries; p.order != nil {
		plan.Order = p.order
	}
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	options := embedded.Options{
		Runtime: sandbox.RuntimeDir, Cache: filepath.Join(cache, "ctload"),
		Tell: func(note string) { t.Log(note) },
	}
	var lab vm.Lab
	if p.box != nil {
		lab, err = vagrant.Open(t.Context(), options, *p.box)
	} else {
		lab, err = embedded.Open(t.Context(), options)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	s := &stage{Lab: lab, t: t, booted: p.booted, joined: p.joined, when: p.when, act: p.act}
	return Request{
		Job:       Job{Plan: plan, View: s, ID: "test", Version: "test", Folder: folder},
		Materials: p.materials(t, plan), Lab: s,
	}
}

// run runs the experiment, once.
func (p play) run(t *testing.T) *results.Run {
	t.Helper()
	return p.until(t, func(*results.Run) bool { return true })
}

// measured runs the experiment, and returns the run until no trial of it is spoilt.
func (p play) measured(t *testing.T) *results.Run {
	t.Helper()
	return p.until(t, func(run *results.Run) bool {
		spoilt := func(trial results.Trial) bool { return trial.Spoilt() }
		return !slices.ContainsFunc(run.Scenarios, func(s results.Scenario) bool {
			return slices.ContainsFunc(s.Trials, spoilt)
		})
	})
}

// until repeats the experiment until a run is good, up to a limit.
func (p play) until(t *testing.T, good func(*results.Run) bool) *results.Run {
	t.Helper()
	r := p.request(t)
	var run *results.Run
	labtest.Repeat(t, func() bool {
		if run != nil {
			r = renewed(t, r)
		}
		run = once(t, r)
		return good(run)
	})
	if err := r.View.(*stage).failure; err != nil {
		t.Errorf("the action on the DUT: %v", err)
	}
	if p.look != nil {
		samples, _, err := r.Folder.Series(&run.Scenarios[0].Trials[0])
		if err != nil {
			t.Fatal(err)
		}
		p.look(samples)
	}
	return run
}

// once performs the request, and waits for the action on the DUT.
func once(t *testing.T, r Request) *results.Run {
	t.Helper()
	s := r.View.(*stage)
	run, err := Run(t.Context(), r)
	s.acting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if s.act != nil && !s.acted {
		t.Fatal("the moment to act never came")
	}
	return run
}

// renewed returns a performed request that can be performed again in the same lab.
func renewed(t *testing.T, r Request) Request {
	t.Helper()
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	r.Folder = folder
	s := r.View.(*stage)
	s.acted, s.failure = false, nil
	return r
}

// materials returns those of a lab's site, with the program that was built for the test as init,
// and with more tools.
func (p play) materials(t testing.TB, plan *Plan) labs.Materials {
	t.Helper()
	materials := labs.Materials{Kernels: map[string]labs.Bootable{}}
	for _, s := range plan.Scenarios {
		name := s.DUT.Kernel
		if _, made := materials.Kernels[name]; made {
			continue
		}
		kernel, err := new(guest.Store).Kernel(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(sandbox.RuntimeDir, "initramfs")
		_, err = guest.BuildFile(path, guest.Spec{
			Init: labtest.Ctload(t), Kernel: kernel,
			Tools: append(guest.DefaultTools(), p.tools...),
			Files: map[string]guest.File{
				"/usr/bin/race": {Source: labtest.Program(t, "orchestrator/testdata/race"),
					Mode: 0o755},
				"/usr/bin/clockrate": {Source: labtest.Program(t,
					"orchestrator/testdata/clockrate"), Mode: 0o755},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		materials.Kernels[name] = labs.Bootable{Image: kernel.Image, Initramfs: path}
	}
	return materials
}
