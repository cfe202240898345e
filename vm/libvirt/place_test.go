package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
)

func TestPlace(t *testing.T) {
	const gib = 1 << 30
	host := func(name string, cpus int, memory int64) room { return room{host: name, cpus: cpus, memory: memory} }
	dut := vm.Machine{VCPUs: 2, MemoryBytes: gib}
	load := vm.Machine{VCPUs: 1, MemoryBytes: gib}
	for _, tc := range []struct {
		name  string
		hosts []room
		loads []string
		want  map[string]int
		wrong string
	}{
		{"one host has all", []room{host("a", 4, 8*gib)}, []string{"client", "server"}, map[string]int{"client": 0, "server": 0}, ""},
		{"the other host has the load", []room{host("a", 4, 8*gib), host("b", 4, 8*gib)}, []string{"client"}, map[string]int{"client": 1}, ""},
		{"the DUT's host comes last", []room{host("a", 4, 8*gib), host("b", 4, 8*gib)}, []string{"client", "client2"}, map[string]int{"client": 1, "client2": 0}, ""},
		{"a DUT's host without a spare CPU has none", []room{host("a", 2, 8*gib), host("b", 4, 8*gib)}, []string{"client", "client2"}, map[string]int{"client": 1, "client2": 1}, ""},
		{
			"spread over three", []room{host("a", 2, 8*gib), host("b", 4, 8*gib), host("c", 4, 8*gib)}, []string{"client", "client2", "client3"},
			map[string]int{"client": 1, "client2": 2, "client3": 1}, "",
		},
		{"no memory for the DUT", []room{host("a", 4, gib)}, nil, nil, "a: the DUT needs 1124 MiB"},
		{"no memory for a client", []room{host("a", 4, 2*gib), host("b", 4, gib)}, []string{"client"}, nil, "b: client needs 1124 MiB"},
		{"more CPUs than there are", []room{host("a", 1, 8*gib)}, nil, nil, "the DUT has 2 CPUs, the host 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := placeNodes(tc.hosts, dut, tc.loads, load)
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

// Two trials never share a core, and none is given less than it needs.
func TestCPUSets(t *testing.T) {
	two := func(numbers ...int) []core { // cores of two threads, numbered as Linux does: the second ones after all first
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
	numa := &libvirtxml.CapsHostNUMATopology{Cells: &libvirtxml.CapsHostNUMACells{Cells: []libvirtxml.CapsHostNUMACell{
		{ID: 0, CPUS: &libvirtxml.CapsHostNUMACPUs{CPUs: []libvirtxml.CapsHostNUMACPU{cpu(0, 0, 0), cpu(1, 0, 1), cpu(4, 0, 0), cpu(5, 0, 1)}}},
		{ID: 1, CPUS: &libvirtxml.CapsHostNUMACPUs{CPUs: []libvirtxml.CapsHostNUMACPU{cpu(2, 1, 0), {ID: 3}}}},
	}}}
	if diff := cmp.Diff([]core{{0, 4}, {1, 5}, {2}, {3}}, cores(numa)); diff != "" {
		t.Error(diff)
	}
	if got := cores(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

// TestSharedXML holds what is made on a daemon of others to golden files.
func TestSharedXML(t *testing.T) {
	machine, err := domain{
		name: "ctload-0badcafe-dut-1", uuid: "00000000-0000-4000-8000-000000000001", run: "0badcafe", kind: "q35", accelerator: KVM, cpus: "2,3",
		machine: vm.Machine{Name: "dut", Kernel: "/pool/kernel", Initramfs: "/pool/initramfs", VCPUs: 2, MemoryBytes: 512 << 20},
		cards:   []card{{network: "ctload-0badcafe-client", mac: "52:54:00:01:01:00", mtu: vxlanMTU}, {bridge: "br0", mac: "52:54:00:01:01:01"}},
	}.xml()
	if err != nil {
		t.Fatal(err)
	}
	network, err := networkXML(journal.Entry{Name: "ctload-0badcafe-client", Detail: "00000000-0000-4000-8000-000000000002"}, "0badcafe", vxlanMTU)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "shared.xml", machine)
	golden(t, "network.xml", network)
	if strings.Contains(network, "forward") || strings.Contains(network, "dhcp") {
		t.Errorf("the network is not isolated:\n%s", network)
	}
}

// TestXDR holds the packets' encoding to RFC 4506.
func TestXDR(t *testing.T) {
	for _, tc := range []struct {
		got  []byte
		want string
	}{
		{appendString(nil, "abcde"), "\x00\x00\x00\x05abcde\x00\x00\x00"},
		{appendString(nil, "abcd"), "\x00\x00\x00\x04abcd"},
		{appendOptional(nil, ""), "\x00\x00\x00\x00"},
		{appendOptional(nil, "a"), "\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00"},
		{appendUint32(nil, 0x01020304), "\x01\x02\x03\x04"},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
	if needsPolkit([]byte{0, 0, 0, 1, 0, 0, 0, 0}) || !needsPolkit([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2}) {
		t.Error("polkit is not where it is")
	}
}

// FuzzRemoteError reads what a daemon may send.
func FuzzRemoteError(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x26\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x05sorry\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x26\x00\x00\x00\x0a\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if err := remoteError(payload); err == nil {
			t.Error("an error that is none")
		}
		needsPolkit(payload)
	})
}
