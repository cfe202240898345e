// Package guest makes what a virtual machine boots: it finds a kernel, by name through the
// distribution's own package archive or by path, and builds an initramfs around it that holds the
// ctload binary as init, the modules that a scenario needs, and the host's rule tools with the
// libraries that they link to.
//
// It needs no root. A [MissingError] reports what the host lacks.
package guest

import "fmt"

// CommandLine is the kernel command line of guests; a driver may append to it.
//
// cryptomgr.notests skips the self-tests of the kernel's ciphers, a fifth of the boot under
// emulation, where everything else that is commonly set (tsc, lpj, mitigations, rcu_expedited,
// trust_cpu) is within the noise. no_timer_check serves loaded hosts: an emulated timer may tick
// too late for the kernel's check, which panics. panic=-1 reboots at once, which QEMU's -no-reboot
// turns into an exit. loglevel=5 keeps errors and warnings on the console: messages cost time
// there, and the agent reads all of them.
const CommandLine = "console=ttyS0 panic=-1 loglevel=5 cryptomgr.notests no_timer_check " +
	"initcall_blacklist=crypto_kdf108_init,jent_mod_init,init_encrypted"

// EmulatedCommandLine returns the command line of a guest whose CPUs are emulated.
//
// Emulation derives the guest's TSC from the host's clock, so it is as good as the HPET that the
// kernel would compare it with; on a busy host the watchdog itself is late, and a clock that it
// declares unstable spoils the trial (tsc=reliable).
//
// A machine with one CPU has room for a second one, so that QEMU keeps the order of its memory for
// the devices; the kernel must not expect it (nr_cpus=1). Nor need the kernel patch each of its
// locked instructions into a plain one (noreplace-smp): QEMU translates changed code again, which
// costs a boot more than the locks cost a load. (nolapic_timer would save as much, but the HPET
// that ticks instead is late.)
func EmulatedCommandLine(vcpus int) string {
	if vcpus == 1 {
		return CommandLine + " tsc=reliable nr_cpus=1 noreplace-smp"
	}
	return CommandLine + " tsc=reliable"
}

// MissingError says that the host lacks something that a guest is made of, and how to provide it.
// The program ends with status 3 on it.
type MissingError struct {
	What     string   // the missing thing, and its use
	Fix      string   // the one command or act that provides it
	Packages []string // Debian packages that Fix installs; nil: it installs none
	Err      error    // the failed attempt; may be nil
}

// Error returns the lack, its cause and the fix.
func (e *MissingError) Error() string {
	text := e.What
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		text += fmt.Sprintf(" (fix: %s)", e.Fix)
	}
	return text
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Err }

func missingPackages(what string, err error, packages ...string) *MissingError {
	fix := "apt-get install -y"
	for _, p := range packages {
		fix += " " + p
	}
	return &MissingError{What: what, Fix: fix, Packages: packages, Err: err}
}
