package orchestrator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
)

// ward is a guest with a client, on which a test makes faults one after another.
type ward struct {
	testing.TB
	lab    *embedded.Lab
	dut    vm.Node
	client vm.Node
}

// wardSettings are the guest's settings, which every fault must restore.
var wardSettings = tuning.Settings{
	Rules: "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n",
	NFT: "table inet own {\n chain in {\n type filter hook input priority 10\n" +
		" tcp dport 4444 drop\n }\n}\n",
	Sysctl: []tuning.Sysctl{
		{Key: "net.netfilter.nf_conntrack_max", Value: "65536"},
		{Key: "net.netfilter.nf_conntrack_udp_timeout", Value: "77"},
	},
}

const (
	dutAddress = "10.77.0.1"
	echoPort   = 7
	webPort    = 80
)

// fault is a kind of fault with its test.
type fault struct {
	name string
	play func(ward)
}

// TestFaults_Kernel makes each fault of a kernel's settings on one guest, sees it in figures that
// the fault did not produce, and sees them as before when it has been reverted.
func TestFaults_Kernel(t *testing.T) {
	playFaults(t,
		fault{"sysctl", ward.sysctl}, fault{"buckets", ward.buckets},
		fault{"rules-load", ward.rulesLoad},
		fault{"rules-remove", ward.rulesRemove}, fault{"flush", ward.flush},
		fault{"delete", ward.delete},
		fault{"module-remove", ward.moduleRemove}, fault{"clock-jump", ward.clockJump},
		fault{"cpu-throttle", ward.cpuThrottle}, fault{"servers", ward.servers},
		fault{"network", ward.network})
}

// TestFaults_Machine does the same with the faults of links and of the machine, and with several at
// once.
func TestFaults_Machine(t *testing.T) {
	playFaults(t,
		fault{"link", ward.link}, fault{"frames", ward.frames}, fault{"pause", ward.pause},
		fault{"overlap", ward.overlap},
		fault{"refused", ward.refused}, fault{"killed", ward.killed},
		fault{"memory-pressure", ward.memoryPressure},
		fault{"reset", ward.reset})
}

// playFaults makes faults on a guest, one after another, and compares the guest's state before and
// after each.
func playFaults(t *testing.T, faults ...fault) {
	t.Helper()
	inLab(t, func(t *testing.T) {
		w := newWard(t)
		for _, act := range faults {
			t.Run(act.name, func(t *testing.T) {
				labtest.Twice(t, func(try testing.TB) {
					w := w
					w.TB = try
					before := w.state()
					act.play(w)
					if act.name == "reset" {
						return // another boot
					}
					for _, change := range tuning.Changes(before, w.state()) {
						try.Errorf("afterwards: %s", change)
					}
				})
			})
		}
	})
}

func newWard(t *testing.T) ward {
	ctx := t.Context()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	lab, err := embedded.Open(ctx, embedded.Options{Runtime: sandbox.RuntimeDir,
		Cache: filepath.Join(cache, "ctload"), Tell: func(note string) { t.Log(note) }})
	if err != nil {
		t.Fatal(err)
	}
	w := ward{TB: t, lab: lab}
	t.Cleanup(func() {
		for _, node := range []vm.Node{w.client, w.dut} {
			if node != nil {
				if err := node.Close(); err != nil {
					t.Errorf("close %s: %v", node.Name(), err)
				}
			}
		}
		if err := lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	kernel, err := new(guest.Store).Kernel(ctx, scenarios.DefaultKernel)
	if err != nil {
		t.Fatal(err)
	}
	initramfs := filepath.Join(sandbox.RuntimeDir, "initramfs")
	_, err = guest.BuildFile(initramfs, guest.Spec{
		Init: labtest.Ctload(t), Kernel: kernel,
		Files: map[string]guest.File{"/usr/bin/owner": {Source: labtest.Program(t,
			"orchestrator/testdata/owner"), Mode: 0o755}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.dut, err = lab.Boot(ctx, vm.Machine{
		Name: "dut", Kernel: kernel.Image, Initramfs: initramfs, VCPUs: 1, MemoryBytes: 256 << 20,
		Ports:       []vm.Port{{Link: wiring.ClientLink, Addresses: []string{dutAddress + "/16"}}},
		ConsoleFile: filepath.Join(t.TempDir(), "console"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.client, err = lab.Join(ctx, vm.LoadNode{Name: "client",
		Port: vm.Port{Link: wiring.ClientLink, Addresses: []string{"10.77.0.2/16"}}})
	if err != nil {
		t.Fatal(err)
	}
	w.furnish()
	return w
}

// furnish configures the guest and starts its responders.
func (w ward) furnish() {
	w.Helper()
	w.must(w.dut.Agent().Configure(w.Context(), wardSettings))
	w.must(w.dut.Agent().Respond(w.Context(), responders.Spec{Kind: responders.Echo,
		Network: responders.UDP, Ports: []uint16{echoPort}}))
	w.must(w.dut.Agent().Respond(w.Context(), responders.Spec{Kind: responders.HTTP,
		Ports: []uint16{webPort}}))
}

func (w ward) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w ward) state() tuning.State {
	w.Helper()
	state, err := w.dut.Agent().ReadBack(w.Context(), wardSettings)
	w.must(err)
	return state
}

// make makes a fault and returns a function that undoes it.
func (w ward) make(f faults.Fault) (made faults.Reading, revert func() faults.Reading) {
	w.Helper()
	if f.ID == "" {
		f.ID = "it"
	}
	made, err := w.dut.Agent().Apply(w.Context(), f)
	w.must(err)
	w.Logf("%s took %v: %.300v %v", f.Kind, made.Took.Round(time.Microsecond), made.Figures,
		made.Remarks)
	return made, func() faults.Reading {
		w.Helper()
		undone, err := w.dut.Agent().Revert(w.Context(), f.ID)
		w.must(err)
		w.Logf("undone in %v: %.300v %v", undone.Took.Round(time.Microsecond), undone.Figures,
			undone.Remarks)
		return undone
	}
}

// file returns the content of a file of the guest.
func (w ward) file(path string) string {
	w.Helper()
	text, err := w.dut.Agent().ReadFile(w.Context(), path)
	w.must(err)
	return strings.TrimSpace(text)
}

// count returns the fill of the guest's table.
func (w ward) count() int {
	w.Helper()
	count, err := strconv.Atoi(w.file("/proc/sys/net/netfilter/nf_conntrack_count"))
	w.must(err)
	return count
}

// flows sends datagrams of n flows to the guest, which echoes each, as late as a busy host may: any
// loss is then on purpose.
func (w ward) flows(n int) generators.Result {
	w.Helper()
	return w.echoed(n, 5*time.Second)
}

// echoed does as flows with another time limit.
func (w ward) echoed(n int, limit time.Duration) generators.Result {
	w.Helper()
	return w.generate(generators.Spec{
		Kind: generators.UDP, Target: dutAddress, Ports: []uint16{echoPort}, Count: int64(n),
		Rate:      500,
		Exchanges: 1, Timeout: limit, Slack: time.Minute,
	})
}

func (w ward) generate(spec generators.Spec) generators.Result {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	result, err := w.client.Agent().Generate(ctx, spec, nil)
	w.must(err)
	return result
}

// holds fails the test unless ok.
func (w ward) holds(ok bool, format string, args ...any) {
	w.Helper()
	text := fmt.Sprintf(format, args...)
	if !ok {
		w.Errorf("does not hold: %s", text)
		return
	}
	w.Log("holds: " + text)
}
