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
	namespaces := Finding{What: "namespaces, bridge, tap", Detail: "the lab can be made without root"}
	err := sandbox.Check(ctx)
	namespaces = namespaces.unless(err)
	if forbidden, ok := errors.AsType[*sandbox.ForbiddenError](err); ok {
		namespaces.Fix = forbidden.Fix()
	}
	kernel, err := (&guest.Store{Dir: cache}).Kernel(ctx, scenarios.DefaultKernel)
	return []Finding{
		namespaces,
		Finding{What: "QEMU and libvirt daemon", Detail: "both are there"}.unless(embedded.CheckHost()),
		examineKVM(cache),
		Finding{What: "rule tools", Detail: "iptables and nft are there"}.unless(checkTools()),
		Finding{What: "guest kernel", Detail: fmt.Sprintf("%s is %s", kernel.Name, kernel.Release)}.unless(err),
		examineMemory(),
		examineDisk(cache),
	}
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

func checkTools() error {
	for _, tool := range []struct{ program, pkg string }{{"iptables-nft-restore", "iptables"}, {"iptables-legacy-restore", "iptables"}, {"nft", "nftables"}} {
		if _, err := guest.FindProgram(tool.program); err != nil {
			return &guest.MissingError{What: "there is no " + tool.program, Fix: "sudo apt-get install --no-install-recommends " + tool.pkg}
		}
	}
	return nil
}

// enoughMemory, in bytes, holds a guest of 512 MiB, QEMU, the initramfs in memory and this program.
const enoughMemory = 1 << 30

func examineMemory() Finding {
	f := Finding{What: "memory", Level: Good}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return f.unless(err)
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
		return f.unless(err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(cache, &stat); err != nil {
		return f.unless(fmt.Errorf("ask for the room in %s: %w", cache, err))
	}
	free := int64(stat.Bavail) * stat.Bsize
	f.Detail = fmt.Sprintf("%d MiB free for %s", free>>20, cache)
	if free < enoughDisk {
		f.Level, f.Fix = Missing, fmt.Sprintf("free %d MiB, or set XDG_CACHE_HOME", (enoughDisk-free)>>20)
	}
	return f
}

// unless returns the finding, which is good where it has no other level, or what is missing as err
// says.
func (f Finding) unless(err error) Finding {
	f.Level = cmp.Or(f.Level, Good)
	if err == nil {
		return f
	}
	f.Level, f.Detail = Missing, err.Error()
	if lacking, ok := errors.AsType[*guest.MissingError](err); ok {
		f.Detail, f.Fix = lacking.What, lacking.Fix
		if lacking.Err != nil {
			f.Detail += ": " + lacking.Err.Error()
		}
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
func optional(what string, examine func(context.Context) (Finding, error)) func(context.Context, string) []Finding {
	return func(ctx context.Context, _ string) []Finding {
		ctx, cancel := context.WithTimeout(ctx, otherLabLimit)
		defer cancel()
		f, err := examine(ctx)
		f.What = what
		if err != nil {
			return []Finding{f.absent(err)}
		}
		return []Finding{f.unless(nil)}
	}
}

// ExamineHosts examines existing libvirt daemons.
func ExamineHosts(ctx context.Context, uris []string) []Finding {
	var findings []Finding
	for _, uri := range uris {
		facts, err := shared.Examine(ctx, uri)
		findings = append(findings, Finding{What: uri, Detail: facts.String()}.unless(err))
		if facts.KVM != "" {
			findings = append(findings, Finding{What: uri, Level: Slow, Detail: facts.KVM + "; guests are emulated (TCG), which is much slower"})
		}
		if facts.Warning != "" {
			findings = append(findings, Finding{What: uri, Level: Slow, Detail: facts.Warning, Fix: facts.Fix})
		}
	}
	return findings
}
