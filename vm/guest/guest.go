// Package guest makes what a virtual machine boots: it finds a kernel, by name through the
// distribution's own package archive or by path, and builds an initramfs around it that holds the
// ctload binary as init, the modules that a scenario needs, and the host's rule tools with the
// libraries that they link to.
//
// Nothing here needs root. What the host lacks is reported as a [MissingError].
package guest

import "fmt"

// CommandLine is the kernel command line that guests boot with; a driver may append to it.
//
// cryptomgr.notests skips the self-tests of the kernel's ciphers, a fifth of the boot under
// emulation, where everything else that is commonly set (tsc, lpj, mitigations, rcu_expedited,
// trust_cpu) is within the noise. no_timer_check is for loaded hosts: an emulated timer may tick
// too late for the kernel's check, which panics. panic=-1 reboots at once, which QEMU's -no-reboot
// turns into an exit. loglevel=5 keeps errors and warnings on the console: messages cost time
// there, and the agent has all of them anyway.
const CommandLine = "console=ttyS0 panic=-1 loglevel=5 cryptomgr.notests no_timer_check " +
	"initcall_blacklist=crypto_kdf108_init,jent_mod_init,init_encrypted"

// EmulatedCommandLine is that of a guest whose CPUs are emulated.
//
// Emulation takes the guest's TSC from the host's clock, so that it is as good as the HPET that the kernel would
// watch it by; on a busy host it is the watchdog that comes late, and a clock which it has declared unstable
// spoils the trial (tsc=reliable).
//
// A machine with one CPU has room for a second one, so that QEMU keeps the order of its memory for the devices;
// the kernel is not to reckon with it (nr_cpus=1). Nor need it patch each of its locked instructions into a
// plain one (noreplace-smp): emulated code that changes has to be translated again, which costs a boot more than
// the locks cost a load. (nolapic_timer would save as much, but the HPET that ticks instead comes late.)
func EmulatedCommandLine(vcpus int) string {
	if vcpus == 1 {
		return CommandLine + " tsc=reliable nr_cpus=1 noreplace-smp"
	}
	return CommandLine + " tsc=reliable"
}

// MissingError says that the host lacks something that a guest is made of, and how to mend it.
// The program ends with status 3 on it.
type MissingError struct {
	What     string   // what is missing, and for what
	Fix      string   // the one command or act that mends it
	Packages []string // Debian packages that Fix installs, if that is what it does
	Err      error    // what was tried, may be nil
}

// Error gives the loss, its cause and the remedy.
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

// Unwrap gives the cause.
func (e *MissingError) Unwrap() error { return e.Err }

func missingPackages(what string, err error, packages ...string) *MissingError {
	fix := "apt-get install -y"
	for _, p := range packages {
		fix += " " + p
	}
	return &MissingError{What: what, Fix: fix, Packages: packages, Err: err}
}
