package labs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
)

// Finding is one thing that a run needs of its host.
type Finding struct {
	What   string // the thing examined
	Level  Level
	Detail string // the result
	Fix    string // the command that fixes it; empty when nothing needs a fix
}

// Level says how much a finding matters.
type Level string

// The levels.
const (
	Good    Level = "ok"
	Slow    Level = "slow"    // it works, at a price
	Missing Level = "missing" // a run cannot start
	Absent  Level = "absent"  // an optional lab; the others work without it
)

// Examine examines everything that the embedded lab needs, and the other labs that this host could
// have. cache is the folder of [guest.Store].
func Examine(ctx context.Context, cache string) []Finding {
	return []Finding{
		examineSandbox(ctx),
		examineMachines(),
		examineKVM(cache),
		examineTools(),
		examineKernel(ctx, cache),
		examineMemory(),
		examineDisk(cache),
		examineNamespaces(ctx),
		examineSystemDaemon(ctx),
		examineVagrant(ctx),
		examineLeft(),
	}
}

func examineSandbox(ctx context.Context) Finding {
	f := Finding{What: "namespaces, bridge, tap", Level: Good, Detail: "the lab can be made without root"}
	if err := sandbox.Check(ctx); err != nil {
		f.Level, f.Detail = Missing, err.Error()
		if forbidden, ok := errors.AsType[*sandbox.ForbiddenError](err); ok {
			f.Fix = forbidden.Fix()
		}
	}
	return f
}

func examineMachines() Finding {
	f := Finding{What: "QEMU and libvirt daemon", Level: Good, Detail: "both are there"}
	if err := embedded.CheckHost(); err != nil {
		return missing(f, err)
	}
	return f
}

func examineKVM(cache string) Finding {
	f := Finding{What: "KVM", Level: Good, Detail: "/dev/kvm is usable; the first machine of a run proves it"}
	if why, memory := libvirt.KVMRefused(cache); why != "" {
		f.Level, f.Detail = Slow, why+"; guests are emulated (TCG), which is much slower"
		if memory != "" {
			f.Fix = "rm " + memory + "   (the next run then tries KVM again)"
		}
	}
	return f
}

func examineTools() Finding {
	f := Finding{What: "rule tools", Level: Good, Detail: "iptables and nft are there"}
	for _, tool := range []struct{ program, pkg string }{{"iptables-nft-restore", "iptables"}, {"iptables-legacy-restore", "iptables"}, {"nft", "nftables"}} {
		if !found(tool.program) {
			return missing(f, &guest.MissingError{What: "there is no " + tool.program, Fix: "sudo apt-get install --no-install-recommends " + tool.pkg})
		}
	}
	return f
}

func found(program string) bool {
	for _, place := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if _, err := exec.LookPath(place); err == nil {
			return true
		}
	}
	return false
}

func examineKernel(ctx context.Context, cache string) Finding {
	f := Finding{What: "guest kernel", Level: Good}
	store := &guest.Store{Dir: cache}
	kernel, err := store.Kernel(ctx, scenarios.DefaultKernel)
	if err != nil {
		return missing(f, err)
	}
	f.Detail = fmt.Sprintf("%s is %s", kernel.Name, kernel.Release)
	return f
}

// enoughMemory, in bytes, holds a guest of 512 MiB, QEMU, the initramfs in memory and this program.
const enoughMemory = 1 << 30

func examineMemory() Finding {
	f := Finding{What: "memory", Level: Good}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return missing(f, err)
	}
	free := (int64(info.Freeram) + int64(info.Bufferram)) * int64(info.Unit)
	total := int64(info.Totalram) * int64(info.Unit)
	f.Detail = fmt.Sprintf("%d MiB", total>>20)
	if total < enoughMemory {
		f.Level, f.Fix = Missing, "a machine with at least 1 GiB, or dut.memory: 256MiB"
		f.Detail = fmt.Sprintf("%d MiB of %d MiB are free", free>>20, total>>20)
	}
	return f
}

// enoughDisk, in bytes, holds a kernel package, unpacked, beside a few run folders.
const enoughDisk = 500 << 20

func examineDisk(cache string) Finding {
	f := Finding{What: "disk", Level: Good}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return missing(f, err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(cache, &stat); err != nil {
		return missing(f, fmt.Errorf("ask for the room in %s: %w", cache, err))
	}
	free := int64(stat.Bavail) * stat.Bsize
	f.Detail = fmt.Sprintf("%d MiB free for %s", free>>20, cache)
	if free < enoughDisk {
		f.Level, f.Fix = Missing, fmt.Sprintf("free %d MiB, or set XDG_CACHE_HOME", (enoughDisk-free)>>20)
	}
	return f
}

func missing(f Finding, err error) Finding {
	f.Level, f.Detail = Missing, err.Error()
	if lacking, ok := errors.AsType[*guest.MissingError](err); ok {
		f.Detail, f.Fix = lacking.What, lacking.Fix
		if lacking.Err != nil {
			f.Detail += ": " + lacking.Err.Error()
		}
	}
	return f
}
