package libvirt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// A lab trusts KVM once a guest has booted under it, never because /dev/kvm exists: nested or
// restricted hosts have the device, open it, and hang or kill their guests. The first machine of a
// lab gives that proof. When it fails, the lab falls back to TCG, says why, and remembers the
// failure until the host boots again, so that the next lab does not wait for it a second time.

// proofLimit bounds the boot of the first machine under KVM, where a boot takes about a second.
const proofLimit = 15 * time.Second

// Accelerator holds what is known about a host's KVM.
type Accelerator struct {
	Name   string // KVM until it has failed, or TCG
	Proven bool   // a machine has booted with it
	Note   string // why the accelerator is not KVM
	Memory string // path of the file that remembers a failure; empty: none
}

// ChooseAccelerator decides what the first machine on this host tries. forced is KVM, TCG or empty.
func ChooseAccelerator(forced, cache string) Accelerator {
	return AcceleratorOf(forced, kvmAbsent(), KVMMemory(cache))
}

// AcceleratorOf decides what the first machine on a host tries. absent says why the host has no
// KVM, and is empty where it has; memory is the path of the file that remembers a failure there.
func AcceleratorOf(forced, absent, memory string) Accelerator {
	switch {
	case forced == TCG:
		return Accelerator{Name: TCG, Proven: true, Note: "TCG was asked for"}
	case forced == KVM: // a failure is then an error and not a reason for TCG
		return Accelerator{Name: KVM, Proven: true}
	case absent != "":
		return Accelerator{Name: TCG, Proven: true, Note: absent}
	}
	if text, _ := os.ReadFile(memory); len(text) > 0 {
		// A failure before the host booted says nothing of it now.
		if id, why, _ := strings.Cut(string(text), "\n"); id == kernels.BootID() {
			return Accelerator{TCG, true, strings.TrimSpace(why), memory}
		}
	}
	return Accelerator{Name: KVM, Memory: memory}
}

// KVMMemory returns the path of the file that remembers a failure on this host.
func KVMMemory(cache string) string {
	if cache == "" {
		return ""
	}
	return filepath.Join(cache, "kvm-failed")
}

// Start starts a machine; proven is false where a failure is likely, and should come early.
type Start func(accelerator string, proven bool) (vm.Node, error)

// Boot starts a machine with the accelerator that works; a first machine is the proof.
func (a *Accelerator) Boot(ctx context.Context, tell func(string), start Start) (vm.Node, error) {
	if !a.Proven {
		node, err := start(KVM, false)
		if err == nil {
			a.Proven = true
			return node, nil
		}
		_, lost := errors.AsType[*vm.LostError](err)
		_, missing := errors.AsType[*guest.MissingError](err)
		// A host that lacks something else would lack it under TCG as well.
		if lost || missing && !emulatorError.MatchString(err.Error()) || ctx.Err() != nil {
			return nil, err
		}
		a.refuse(err)
		tell("falling back to TCG, which is much slower: " + a.Note)
	}
	return start(a.Name, true)
}

// LimitOf bounds a boot: shortly where a failure is likely.
func LimitOf(accelerator string, proven bool) time.Duration {
	if !proven {
		return proofLimit
	}
	return bootLimit[accelerator]
}

// kvmAbsent returns why KVM cannot even be tried; empty when it can.
func kvmAbsent() string {
	switch err := unix.Access("/dev/kvm", unix.R_OK|unix.W_OK); {
	case errors.Is(err, unix.ENOENT):
		return "this host has no /dev/kvm"
	case err != nil:
		return "/dev/kvm is not yours to use: sudo usermod -aG kvm $USER, then log in again"
	}
	return ""
}

// refuse falls back to TCG and remembers why.
func (a *Accelerator) refuse(reason error) {
	a.Name, a.Proven = TCG, true
	a.Note = "a guest did not boot under KVM: " + briefly(reason)
	if a.Memory == "" { // the KVM of another host, of which nothing is remembered
		return
	}
	// Only a convenience: without the file the next lab tries again.
	_ = os.WriteFile(a.Memory, []byte(kernels.BootID()+"\n"+a.Note+"\n"), 0o600)
}

// emulatorError finds QEMU's own message within libvirt's.
var emulatorError = regexp.MustCompile(`(?m)qemu-system-\w+: (?:error: )?(.*)$`)

// briefly returns the part of a boot's error that explains the failure of KVM.
func briefly(err error) string {
	if said := emulatorError.FindStringSubmatch(err.Error()); said != nil {
		return "QEMU says: " + said[1]
	}
	if boot, ok := errors.AsType[*vm.BootError](err); ok {
		return boot.Reason.Error()
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

// KVMRefused returns why this host will emulate its machines, empty when KVM will be tried, and the
// file that remembers a failure, if one does. cache is the folder given to [Open].
func KVMRefused(cache string) (why, memory string) {
	a := ChooseAccelerator("", cache)
	if a.Name == TCG {
		memory = a.Memory
	}
	return a.Note, memory
}
