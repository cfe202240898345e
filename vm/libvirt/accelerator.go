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

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// KVM is believed when a guest has booted under it, never because /dev/kvm is there: nested or
// restricted hosts have the device, open it, and hang or kill their guests. The first machine of a lab
// is that proof. When it fails, the lab falls back to TCG, says why, and remembers it until the host
// boots again, so that the next lab does not wait for the same failure.

// proofLimit is how long the first machine may take under KVM, where a boot takes about a second.
const proofLimit = 15 * time.Second

// Accelerator is what is known about this host's KVM.
type Accelerator struct {
	Name   string // KVM until it has failed, or TCG
	Proven bool   // a machine has booted with it
	Note   string // why it is not KVM
	Memory string // path of the file that remembers a failure
}

// ChooseAccelerator decides what the first machine is tried with. forced is KVM, TCG or empty.
func ChooseAccelerator(forced, cache string) Accelerator {
	a := Accelerator{Name: KVM, Memory: KVMMemory(cache)}
	switch forced {
	case TCG:
		return Accelerator{Name: TCG, Proven: true, Note: "TCG was asked for"}
	case KVM:
		a.Proven = true // a failure is then an error, not a reason for something else
		return a
	}
	if why := kvmAbsent(); why != "" {
		return Accelerator{Name: TCG, Proven: true, Note: why}
	}
	a.Remember()
	return a
}

// KVMMemory is the file that remembers a failure of this host.
func KVMMemory(cache string) string {
	if cache == "" {
		return ""
	}
	return filepath.Join(cache, "kvm-failed")
}

// Remember takes an earlier failure since this host booted for granted.
func (a *Accelerator) Remember() {
	if why := a.recall(); why != "" {
		a.Name, a.Proven, a.Note = TCG, true, why
	}
}

// Boot starts a machine with what is known to work. Where nothing is known yet, the machine is the proof.
func (a *Accelerator) Boot(ctx context.Context, tell func(string), start func(accelerator string, proven bool) (vm.Node, error)) (vm.Node, error) {
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

// LimitOf bounds a boot, which is short where a failure is to be expected.
func LimitOf(accelerator string, proven bool) time.Duration {
	if !proven {
		return proofLimit
	}
	return bootLimit[accelerator]
}

// kvmAbsent says why KVM cannot even be tried.
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
	if a.Memory == "" { // another host's, of which nothing is remembered
		return
	}
	// Only a convenience: without the file the next lab tries again.
	_ = os.WriteFile(a.Memory, []byte(bootID()+"\n"+a.Note+"\n"), 0o600)
}

// emulatorError is what QEMU says of itself, in the middle of what libvirt says about it.
var emulatorError = regexp.MustCompile(`(?m)qemu-system-\w+: (?:error: )?(.*)$`)

// briefly is the part of a boot's error that tells KVM's troubles.
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

// recall is the note of an earlier failure since this host booted.
func (a *Accelerator) recall() string {
	text, err := os.ReadFile(a.Memory)
	if err != nil {
		return ""
	}
	id, note, _ := strings.Cut(string(text), "\n")
	if id != bootID() {
		return ""
	}
	return strings.TrimSpace(note)
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// KVMRefused says why machines of this host will be emulated, empty when KVM will be tried, and which
// file remembers it, if one does. cache is the folder that was given to [Open].
func KVMRefused(cache string) (why, memory string) {
	a := ChooseAccelerator("", cache)
	if a.recall() != "" {
		memory = a.Memory
	}
	return a.Note, memory
}
