package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/libvirt/shared"
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

// Examine examines what each kind of lab needs of this host, and looks for what killed runs left.
// cache is the folder of [guest.Store].
func Examine(ctx context.Context, cache string) []Finding {
	var findings []Finding
	for _, d := range drivers {
		findings = append(findings, d.examine(ctx, cache)...)
	}
	return append(findings, examineLeft())
}

// examineMachines examines everything that the embedded lab needs.
func examineMachines(ctx context.Context, cache string) []Finding {
	err := sandbox.Check(ctx)
	namespaces := good("namespaces, bridge, tap", "the lab can be made without root").unless(err)
	if forbidden, ok := errors.AsType[*sandbox.ForbiddenError](err); ok {
		namespaces.Fix = forbidden.Fix()
	}
	tools := guest.CheckTools(guest.DefaultTools()...)
	kernel, err := (&guest.Store{Dir: cache}).Kernel(ctx, scenarios.DefaultKernel)
	return []Finding{
		namespaces,
		good("QEMU and libvirt daemon", "both are there").unless(embedded.CheckHost()),
		examineKVM(cache),
		good("rule tools", "iptables and nft are there").unless(tools),
		good("guest kernel", kernel.Name+" is "+kernel.Release).unless(err),
		good("limits", "of files, memory and processes are enough").unless(checkLimits()),
		examineMemory(),
		examineDisk(cache),
	}
}

func examineKVM(cache string) Finding {
	f := good("KVM", "/dev/kvm is usable; the first machine of a run proves it")
	if why, memory := libvirt.KVMRefused(cache); why != "" {
		f.Level, f.Detail = Slow, why+emulated
		if memory != "" {
			f.Fix = "rm " + memory + "   (the next run then tries KVM again)"
		}
	}
	return f
}

const emulated = "; guests are emulated (TCG), which is much slower"

// enoughMemory, in bytes, holds a guest of 512 MiB, QEMU, the initramfs in memory and this program.
const enoughMemory = 1 << 30

func examineMemory() Finding {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail with a valid address
	total := int64(info.Totalram) * int64(info.Unit)
	f := good("memory", fmt.Sprintf("%d MiB", total>>20))
	if total < enoughMemory {
		f.Level, f.Fix = Missing, "a machine with at least 1 GiB, or dut.memory: 256MiB"
	}
	return f
}

// enoughDisk, in bytes, holds a kernel package, unpacked, beside a few run folders.
const enoughDisk = 500 << 20

func examineDisk(cache string) Finding {
	var stat unix.Statfs_t
	err := error(guest.Missing("set HOME or XDG_CACHE_HOME", "there is no folder for caches"))
	if cache != "" {
		err = os.MkdirAll(cache, 0o755)
	}
	if err == nil {
		err = os.NewSyscallError("statfs", unix.Statfs(cache, &stat))
	}
	free := int64(stat.Bavail) * stat.Bsize
	f := good("disk", fmt.Sprintf("%d MiB free for %s", free>>20, cache)).unless(err)
	if err == nil && free < enoughDisk {
		lack := (enoughDisk - free) >> 20
		f.Level, f.Fix = Missing, fmt.Sprintf("free %d MiB, or set XDG_CACHE_HOME", lack)
	}
	return f
}

func good(what, detail string) Finding { return Finding{What: what, Level: Good, Detail: detail} }

// unless returns the finding, or what is missing as err says.
func (f Finding) unless(err error) Finding {
	if err == nil {
		return f
	}
	f.Level, f.Detail = Missing, err.Error()
	if lacking, ok := errors.AsType[*guest.MissingError](err); ok {
		f.Detail, f.Fix = lacking.Err.Error(), lacking.Fix
	}
	return f
}

// absent turns a finding about an optional lab into absent with err as its detail.
func (f Finding) absent(err error) Finding {
	f = f.unless(err)
	f.Level = Absent
	f.Detail = strings.Join(strings.Fields(f.Detail), " ")
	return f
}

// otherLabLimit bounds the examination of an optional lab.
const otherLabLimit = 30 * time.Second

// optional examines a lab that a host may lack.
func optional(what string, examine func(context.Context) (Finding, error)) examination {
	return func(ctx context.Context, _ string) []Finding {
		ctx, cancel := context.WithTimeout(ctx, otherLabLimit)
		defer cancel()
		f, err := examine(ctx)
		f.What, f.Level = what, cmp.Or(f.Level, Good)
		if err != nil {
			f = f.absent(err)
		}
		return []Finding{f}
	}
}

// ExamineHosts examines existing libvirt daemons.
func ExamineHosts(ctx context.Context, uris []string) []Finding {
	var findings []Finding
	for _, uri := range uris {
		facts, err := shared.Examine(ctx, uri)
		findings = append(findings, good(uri, facts.String()).unless(err))
		if facts.KVM != "" {
			findings = append(findings, Finding{uri, Slow, facts.KVM + emulated, ""})
		}
		if facts.Warning != "" {
			findings = append(findings, Finding{uri, Slow, facts.Warning, facts.Fix})
		}
	}
	return findings
}
