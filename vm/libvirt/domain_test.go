package libvirt

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestDomainXML compares the machine's description with a golden file for each accelerator, and for
// a single CPU, where emulation needs room for a second one.
func TestDomainXML(t *testing.T) {
	for _, tc := range []struct {
		file, accelerator string
		vcpus             int
	}{{"kvm.xml", KVM, 2}, {"tcg.xml", TCG, 2}, {"kvm-single.xml", KVM, 1},
		{"tcg-single.xml", TCG, 1}} {
		got, err := Domain{
			Name: "ctload-dut1", Accelerator: tc.accelerator,
			Machine: vm.Machine{
				Name: "dut", Kernel: "/k/vmlinuz", Initramfs: "/dev/shm/guest/initramfs-0",
				VCPUs: tc.vcpus, MemoryBytes: 512 << 20, ConsoleFile: "/runs/x/console.log",
			},
			Cards: []Card{{Tap: "tap1.0", MAC: "52:54:00:00:01:00"},
				{Tap: "tap1.1", MAC: "52:54:00:00:01:01"}},
			Channel: "/dev/shm/dut1.sock",
		}.xml()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, tc.file, got)
	}
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestKVMFailureIsRememberedUntilTheHostBoots follows a lab on a host whose KVM does not work, and
// on the same host later.
func TestKVMFailureIsRememberedUntilTheHostBoots(t *testing.T) {
	cache := t.TempDir()
	a := Accelerator{Name: KVM, Memory: filepath.Join(cache, "kvm-failed")}
	a.refuse(&vm.BootError{Node: "dut", Reason: ErrDaemonGone, Console: "x"})
	if a.Name != TCG || !a.Proven {
		t.Errorf("after a failure: %s, proven %v", a.Name, a.Proven)
	}
	if again := AcceleratorOf("", "", a.Memory); again != a {
		t.Errorf("remembered %+v, want %+v", again, a)
	}
	if err := os.WriteFile(a.Memory, []byte("another boot\nwhatever\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := AcceleratorOf("", "", a.Memory); again.Name != KVM {
		t.Errorf("remembered %q across a boot of the host", again.Note)
	}
	if forced := ChooseAccelerator(KVM, cache); forced.Name != KVM {
		t.Errorf("kvm was asked for and %s chosen", forced.Name)
	}
	if forced := ChooseAccelerator(TCG, cache); forced.Name != TCG || forced.Note == "" {
		t.Errorf("tcg was asked for: %+v", forced)
	}
}

// TestBriefly finds QEMU's message in libvirt's.
func TestBriefly(t *testing.T) {
	err := errors.New("internal error: process exited while connecting to monitor: " +
		"2026-11-20T13:05:18.910338Z " +
		"qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nqemu-system-x86_64: " +
		"../../x.c:1: assertion")
	if got, want := briefly(err), "QEMU says: failed to set MSR 0x10a to 0x69"; got != want {
		t.Errorf("briefly: %q, want %q", got, want)
	}
}

// TestDomainXML_OfOtherDaemons compares a machine on a shared daemon with a golden file.
func TestDomainXML_OfOtherDaemons(t *testing.T) {
	machine, err := Domain{
		Name: "ctload-0badcafe-dut-1", UUID: "00000000-0000-4000-8000-000000000001",
		Run: "0badcafe", Kind: "q35", Accelerator: KVM, CPUs: "2,3",
		Machine: vm.Machine{Name: "dut", Kernel: "/pool/kernel", Initramfs: "/pool/initramfs",
			VCPUs: 2, MemoryBytes: 512 << 20},
		Cards: []Card{{Network: "ctload-0badcafe-client", MAC: "52:54:00:01:01:00", MTU: 1430},
			{Bridge: "br0", MAC: "52:54:00:01:01:01"}},
	}.xml()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "shared.xml", machine)
}

// TestCheckArchitecture refuses a build whose machines no test has booted, and names what works
// there.
func TestCheckArchitecture(t *testing.T) {
	if err := CheckArchitecture("amd64"); err != nil {
		t.Error(err)
	}
	missing, ok := errors.AsType[*guest.MissingError](CheckArchitecture("arm64"))
	if !ok || !strings.Contains(missing.Fix, "--driver netns") {
		t.Errorf("arm64: %+v", missing)
	}
}
