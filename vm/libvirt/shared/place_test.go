package shared

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
)

func TestPlace(t *testing.T) {
	const gib = 1 << 30
	host := func(name string, cpus int, memory int64) room {
		return room{host: name, cpus: cpus, memory: memory}
	}
	dut := vm.Machine{VCPUs: 2, MemoryBytes: gib}
	load := vm.Machine{VCPUs: 1, MemoryBytes: gib}
	for _, tc := range []struct {
		name  string
		hosts []room
		loads []string
		want  map[string]int
		wrong string
	}{
		{"one host has all", []room{host("a", 4, 8*gib)}, []string{"client", "server"},
			map[string]int{"client": 0, "server": 0}, ""},
		{"the other host has the load", []room{host("a", 4, 8*gib), host("b", 4, 8*gib)},
			[]string{"client"}, map[string]int{"client": 1}, ""},
		{"the DUT's host comes last", []room{host("a", 4, 8*gib), host("b", 4, 8*gib)},
			[]string{"client", "client2"}, map[string]int{"client": 1, "client2": 0}, ""},
		{"a DUT's host without a spare CPU has none",
			[]room{host("a", 2, 8*gib), host("b", 4, 8*gib)}, []string{"client", "client2"},
			map[string]int{"client": 1, "client2": 1}, ""},
		{
			"spread over three",
			[]room{host("a", 2, 8*gib), host("b", 4, 8*gib), host("c", 4, 8*gib)},
			[]string{"client", "client2", "client3"},
			map[string]int{"client": 1, "client2": 2, "client3": 1}, "",
		},
		{"no memory for the DUT", []room{host("a", 4, gib)}, nil, nil, "a: the DUT needs 1124 MiB"},
		{"no memory for a client", []room{host("a", 4, 2*gib), host("b", 4, gib)},
			[]string{"client"}, nil, "b: client needs 1124 MiB"},
		{"more CPUs than there are", []room{host("a", 1, 8*gib)}, nil, nil,
			"the DUT has 2 CPUs, the host 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := placeNodes(tc.hosts, dut, load, tc.loads)
			if tc.wrong != "" {
				if err == nil {
					t.Fatal("it was placed")
				}
				holds(t, err, tc.wrong)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCPUSets checks that two trials never share a core, and that none gets less than it needs.
func TestCPUSets(t *testing.T) {
	// Cores of two threads, numbered as Linux does: the second ones after all first.
	two := func(numbers ...int) []core {
		var list []core
		for _, n := range numbers {
			list = append(list, core{n, n + len(numbers)})
		}
		return list
	}
	for _, tc := range []struct {
		cores []core
		need  int
		want  []string
	}{
		{two(0, 1, 2, 3), 2, []string{"0,4", "1,5", "2,6", "3,7"}},
		{two(0, 1, 2, 3), 3, []string{"0,1,4,5", "2,3,6,7"}},
		{two(0, 1, 2), 4, []string{"0,1,3,4"}},
		{[]core{{0}, {1}}, 2, []string{"0,1"}},
		{[]core{{0}, {1}}, 3, nil},
	} {
		if diff := cmp.Diff(tc.want, cpuSets(tc.cores, tc.need)); diff != "" {
			t.Errorf("%v for %d: %s", tc.cores, tc.need, diff)
		}
	}
}

func TestCores(t *testing.T) {
	cpu := func(id, socket, core int) libvirtxml.CapsHostNUMACPU {
		return libvirtxml.CapsHostNUMACPU{ID: id, SocketID: &socket, CoreID: &core}
	}
	cell := func(id int, cpus ...libvirtxml.CapsHostNUMACPU) libvirtxml.CapsHostNUMACell {
		return libvirtxml.CapsHostNUMACell{ID: id, CPUS: &libvirtxml.CapsHostNUMACPUs{CPUs: cpus}}
	}
	numa := &libvirtxml.CapsHostNUMATopology{Cells: &libvirtxml.CapsHostNUMACells{
		Cells: []libvirtxml.CapsHostNUMACell{
			cell(0, cpu(0, 0, 0), cpu(1, 0, 1), cpu(4, 0, 0), cpu(5, 0, 1)),
			cell(1, cpu(2, 1, 0), libvirtxml.CapsHostNUMACPU{ID: 3}),
		},
	}}
	if diff := cmp.Diff([]core{{0, 4}, {1, 5}, {2}, {3}}, cores(numa)); diff != "" {
		t.Error(diff)
	}
	if got := cores(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNetworkXML(t *testing.T) {
	got, err := networkXML(journal.Entry{Name: "ctload-0badcafe-client",
		Detail: "00000000-0000-4000-8000-000000000002"}, "0badcafe", vxlanMTU)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/network.xml")
	if err != nil {
		t.Fatal(err)
	}
	if got+"\n" != string(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if strings.Contains(got, "forward") || strings.Contains(got, "dhcp") {
		t.Errorf("the network is not isolated:\n%s", got)
	}
}
