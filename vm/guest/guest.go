// Package guest makes what a virtual machine boots: it finds a kernel, by name through the
// distribution's archive or by path, and builds an initramfs with the ctload binary as init, a
// scenario's modules, and the host's rule tools with their libraries.
//
// It needs no root. A [MissingError] reports what the host lacks.
package guest

import "fmt"

// CommandLine is the kernel command line of guests; a driver may append to it.
//
// cryptomgr.notests skips the self-tests of ciphers, a fifth of the boot under emulation, where all
// else that is commonly set (tsc, lpj, mitigations, rcu_expedited, trust_cpu) is within the noise.
// no_timer_check serves busy hosts: an emulated timer may tick too late for the kernel's check,
// which panics. panic=-1 reboots at once, which QEMU's -no-reboot turns into an exit. loglevel=5
// keeps errors and warnings on the console, where messages cost time; the agent reads all of them.
const CommandLine = "console=ttyS0 panic=-1 loglevel=5 cryptomgr.notests no_timer_check " +
	"initcall_blacklist=crypto_kdf108_init,jent_mod_init,init_encrypted"

// EmulatedCommandLine returns the command line of a guest whose CPUs are emulated.
//
// Emulation derives the guest's TSC from the host's clock, so it is as good as the HPET that the
// kernel would compare it with; on a busy host the watchdog itself is late, and a clock that it
// declares unstable spoils the trial (tsc=reliable).
//
// A machine with one CPU has room for a second one, so that QEMU keeps the order of its memory for
// the devices; the kernel must not expect it (nr_cpus=1). Nor need it patch its locked instructions
// into plain ones (noreplace-smp): QEMU translates changed code again, which costs a boot more than
// the locks cost a load. (nolapic_timer would save as much, but the HPET then ticks late.)
func EmulatedCommandLine(vcpus int) string {
	if vcpus == 1 {
		return CommandLine + " tsc=reliable nr_cpus=1 noreplace-smp"
	}
	return CommandLine + " tsc=reliable"
}

// Install begins the fix that installs Debian packages; their names follow.
const Install = "sudo apt-get install --no-install-recommends "

// MissingError says what the host lacks, and how to provide it. The exit status is then 3.
type MissingError struct {
	Fix string // the one command or act that provides it
	Err error  // the missing thing, its use, and the failed attempt
}

// Missing returns a MissingError; format is as in [fmt.Errorf].
func Missing(fix, format string, args ...any) *MissingError {
	return &MissingError{fix, fmt.Errorf(format, args...)}
}

// Error returns the lack, its cause and the fix.
func (e *MissingError) Error() string { return fmt.Sprintf("%v (fix: %s)", e.Err, e.Fix) }

// Unwrap returns the lack with its cause.
func (e *MissingError) Unwrap() error { return e.Err }
