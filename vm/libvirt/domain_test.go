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

// TestDomainXML holds the machine's description to a golden file for each accelerator, and for a single CPU, for
// which emulation needs room for another one.
func TestDomainXML(t *testing.T) {
	for _, tc := range []struct {
		file, accelerator string
		vcpus             int
	}{{"kvm.xml", KVM, 2}, {"tcg.xml", TCG, 2}, {"kvm-single.xml", KVM, 1}, {"tcg-single.xml", TCG, 1}} {
		got, err := domain{
			name: "ctload-dut1", accelerator: tc.accelerator,
			machine: vm.Machine{
				Name: "dut", Kernel: "/k/vmlinuz", Initramfs: "/dev/shm/guest/initramfs-0",
				VCPUs: tc.vcpus, MemoryBytes: 512 << 20, ConsoleFile: "/runs/x/console.log",
			},
			cards:   []card{{tap: "tap1.0", mac: macAddress(1, 0)}, {tap: "tap1.1", mac: macAddress(1, 1)}},
			channel: "/dev/shm/dut1.sock",
		}.xml()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, tc.file, got)
	}
}

// golden holds a text to a file of testdata.
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

// TestCheckArchitecture refuses a build whose machines no test has booted, and names what works there.
func TestCheckArchitecture(t *testing.T) {
	if err := checkArchitecture("amd64"); err != nil {
		t.Error(err)
	}
	missing, ok := errors.AsType[*guest.MissingError](checkArchitecture("arm64"))
	if !ok || !strings.Contains(missing.Fix, "--driver netns") {
		t.Errorf("arm64: %+v", missing)
	}
}

// TestKVMFailureIsRememberedUntilTheHostBoots goes through what a lab does on a host whose KVM does not
// work, and on the same host later.
func TestKVMFailureIsRememberedUntilTheHostBoots(t *testing.T) {
	cache := t.TempDir()
	a := accelerator{name: KVM, memory: filepath.Join(cache, "kvm-failed")}
	a.refuse(&vm.BootError{Node: "dut", Reason: errDaemonGone, Console: "x"})
	if a.name != TCG || !a.proven {
		t.Errorf("after a failure: %s, proven %v", a.name, a.proven)
	}
	again := accelerator{memory: a.memory}
	if got := again.recall(); got != a.note {
		t.Errorf("remembered %q, want %q", got, a.note)
	}
	if err := os.WriteFile(a.memory, []byte("another boot\nwhatever\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := again.recall(); got != "" {
		t.Errorf("remembered %q across a boot of the host", got)
	}
	if forced := chooseAccelerator(KVM, cache); forced.name != KVM {
		t.Errorf("kvm was asked for and %s chosen", forced.name)
	}
	if forced := chooseAccelerator(TCG, cache); forced.name != TCG || forced.note == "" {
		t.Errorf("tcg was asked for: %+v", forced)
	}
}

// TestBriefly finds QEMU's own words in libvirt's.
func TestBriefly(t *testing.T) {
	err := errors.New("internal error: process exited while connecting to monitor: 2026-11-20T13:05:18.910338Z " +
		"qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nqemu-system-x86_64: ../../x.c:1: assertion")
	if got, want := briefly(err), "QEMU says: failed to set MSR 0x10a to 0x69"; got != want {
		t.Errorf("briefly: %q, want %q", got, want)
	}
}
