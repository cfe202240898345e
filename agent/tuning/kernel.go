package tuning

import (
	"context"
	"os"
	"path/filepath"

	"github.com/ctload/ctload/internal/kernels"
)

// Kernel is the running kernel as this process reaches it. The zero value is ready for use; PID 1,
// which runs children and loads modules in its own way, and tests set the fields.
type Kernel struct {
	// Run runs the tools; nil is [Exec].
	Run Runner
	// LoadModule loads a module and its dependencies; nil runs modprobe. Kernel calls it only for a
	// module that is neither loaded nor built in. Parameters have modprobe's form.
	LoadModule func(ctx context.Context, name string, parameters ...string) error
	// Proc and Sys are the mount points of procfs and sysfs; empty is /proc and /sys.
	Proc, Sys string
}

func (k Kernel) proc() string {
	if k.Proc == "" {
		return "/proc"
	}
	return k.Proc
}

func (k Kernel) sys() string {
	if k.Sys == "" {
		return "/sys"
	}
	return k.Sys
}

func (k Kernel) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	if k.Run == nil {
		return Exec(ctx, stdin, name, args...)
	}
	return k.Run(ctx, stdin, name, args...)
}

// conntrackLoaded reports whether the kernel has connection tracking, as a module or built in. Its
// parameters appear with it; conntrackLoaded looks for the module's own folder too, since kernels
// before 5.7 hide the parameters in network namespaces of other users.
func (k Kernel) conntrackLoaded() bool {
	for _, path := range []string{
		k.procSys("net/netfilter/nf_conntrack_count"),
		filepath.Join(k.sys(), "module", kernels.Module),
	} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}
