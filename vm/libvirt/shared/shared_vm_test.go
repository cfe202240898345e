package shared

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// newJournal returns the journal of a run.
func newJournal(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Create(t.TempDir(), "test", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// bootable returns a kernel and an initramfs with ctload as users build it.
func bootable(t *testing.T) vm.Machine {
	t.Helper()
	kernel, err := new(guest.Store).Kernel(t.Context(), "debian/bookworm")
	if err != nil {
		t.Fatal(err)
	}
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	_, err = guest.BuildFile(initramfs, guest.Spec{Init: labtest.Ctload(t), Kernel: kernel})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Machine{Kernel: kernel.Image, Initramfs: initramfs}
}

func TestMain(m *testing.M) { labtest.Main(m, nil) }

// TestSharedLab boots a DUT and a client on one daemon, and lets the client talk to the DUT: the
// storage pool carries kernels, the daemon carries the agents' streams, and nothing is left.
func TestSharedLab(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "one")
	load := bootable(t)
	links := h.Links()
	made := newJournal(t)
	dut := load
	dut.Name, dut.VCPUs, dut.MemoryBytes = "dut", 1, 256<<20
	dut.ConsoleFile = filepath.Join(t.TempDir(), "console.log")
	dut.Ports = []vm.Port{{Link: "client", Addresses: []string{"10.77.0.1/16"}}}
	load.VCPUs, load.MemoryBytes = 1, 256<<20
	lab, err := Connect(t.Context(), Options{
		URIs: []string{h.URI()}, Run: "test", Journal: made, DUT: dut,
		LoadNodes: []string{"client"}, Load: load,
		Tell: func(note string) { t.Log(note) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	began := time.Now()
	node, err := lab.Boot(t.Context(), dut)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the DUT took %v", time.Since(began))
	client, err := lab.Join(t.Context(), vm.LoadNode{Name: "client",
		Port: vm.Port{Link: "client", Addresses: []string{"10.77.0.2/16"}}})
	if err != nil {
		t.Fatal(err)
	}
	err = node.Agent().Respond(t.Context(), responders.Spec{Kind: responders.Silent,
		Ports: []uint16{80}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := client.Agent().Generate(t.Context(), generators.Spec{
		Kind: generators.TCP, Target: "10.77.0.1", Ports: []uint16{80}, Count: 500, Concurrency: 10,
	}, nil)
	if err != nil || result.Completed != 500 {
		t.Fatalf("%d of 500 completed: %v %v", result.Completed, result.Causes, err)
	}
	machine := node.(vm.Pausable)
	err = errors.Join(machine.Pause(t.Context()), stands(t, machine, true),
		machine.Resume(t.Context()), stands(t, machine, false))
	if err != nil {
		t.Error(err)
	}
	if _, err := node.Agent().Hello(t.Context()); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	worsened(t, lab, node, client)
	if node.Console() == "" { // a quiet kernel still prints what it could not find
		t.Error("the DUT's console is empty")
	}
	kinds := kindsOf(made.Left())
	all := []journal.Kind{journal.Domain, journal.Network, journal.Pool, journal.Volume}
	if !slices.Equal(kinds, all) {
		t.Errorf("the journal has %v", made.Left())
	}
	if err := errors.Join(client.Close(), node.Close(), lab.Close()); err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Error(err)
	}
	if n := h.Machines(); n > 0 {
		t.Errorf("%d machines are left", n)
	}
	noLinksLeft(t, h, links)
	left, err := filepath.Glob(h.Root(imagesFolder + "/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left: %v", left, err)
	}
}

// worsened partitions and unplugs the links of a DUT and its client, and cuts the DUT's power:
// libvirt plugs and starts, the machines' own kernels partition.
func worsened(t *testing.T, lab *Lab, dut, client vm.Node) {
	t.Helper()
	answered := func() int64 {
		t.Helper()
		result, err := client.Agent().Generate(t.Context(), generators.Spec{
			Kind: generators.Probe, Protocol: generators.ProtocolICMP, Target: "10.77.0.1",
			Rate: 10, Count: 3, Timeout: 500 * time.Millisecond,
		}, nil)
		if err != nil {
			t.Error(err)
		}
		return result.Completed
	}
	for _, node := range []vm.Node{dut, client} {
		for _, c := range []link.Conditions{{Partitioned: true}, {Down: true}} {
			now, err := lab.SetLink(t.Context(), node.Name(), "client", c)
			if err != nil || now != c {
				t.Errorf("%s, %v: it reads back as %v (%v)", node.Name(), c, now, err)
			}
			seen := soon(func() bool {
				carrier, err := node.Agent().ReadFile(t.Context(), "/sys/class/net/eth0/carrier")
				return (err == nil && strings.TrimSpace(carrier) == "1") != c.Down
			})
			if !seen {
				t.Errorf("%s, %v: its carrier says otherwise", node.Name(), c)
			}
			if n := answered(); n != 0 {
				t.Errorf("%s, %v: %d pings are answered", node.Name(), c, n)
			}
			now, err = lab.ClearLink(t.Context(), node.Name(), "client")
			if err != nil || now != (link.Conditions{}) {
				t.Errorf("%s in order: it reads back as %v (%v)", node.Name(), now, err)
			}
			if !soon(func() bool { return answered() > 0 }) {
				t.Errorf("%s after %v: no ping is answered", node.Name(), c)
			}
		}
	}
	before, began := dut.Agent(), time.Now()
	if err := dut.(vm.Resettable).Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dut.Agent() == before {
		t.Error("after a reset the agent is that of before")
	}
	hello, err := dut.Agent().Hello(t.Context())
	// The agent reports whole seconds.
	if most := time.Since(began) + time.Second; err != nil || hello.Uptime > most {
		t.Errorf("after a reset it is up for %v, of %v since (%v)", hello.Uptime, most, err)
	}
	if !soon(func() bool { return answered() > 0 }) {
		t.Error("after a reset no ping is answered")
	}
}

// soon reports whether something happens within a minute: a guest notices its carrier when it gets
// CPU time.
func soon(happens func() bool) bool {
	return hosttest.Poll(time.Minute, happens)
}

// noLinksLeft checks that a hypervisor has only the links of before. The kernel takes a moment to
// remove one.
func noLinksLeft(t *testing.T, h *libvirttest.Hypervisor, before map[string]bool) {
	t.Helper()
	var left []string
	if !soon(func() bool {
		left = slices.DeleteFunc(slices.Collect(maps.Keys(h.Links())),
			func(link string) bool { return before[link] })
		return len(left) == 0
	}) {
		t.Errorf("links are left: %q", left)
	}
}

// kindsOf returns the kinds of a journal's entries, each once.
func kindsOf(list []journal.Entry) []journal.Kind {
	kinds := map[journal.Kind]bool{}
	for _, e := range list {
		kinds[e.Kind] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// stands checks whether a machine stands still.
func stands(t *testing.T, machine vm.Pausable, want bool) error {
	t.Helper()
	paused, err := machine.Paused(t.Context())
	if err == nil && paused != want {
		err = fmt.Errorf("paused %v, want %v", paused, want)
	}
	return err
}
