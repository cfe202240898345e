package samplers

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// dropReasons bounds the reasons counted separately; Linux 6.18 has about 120. Those of other
// subsystems (wireless, Open vSwitch) begin at 65536 and are counted together.
const dropReasons = 512

// otherReasons is the name of the reasons counted together.
const otherReasons = "OTHER"

// dropWatcher counts the packets that the kernel drops, by its own reason: a program at the raw
// tracepoint kfree_skb increments an element of an array. It needs Linux 5.17 (or 5.15 of Ubuntu),
// CONFIG_BPF_SYSCALL, BTF for the names, and CAP_BPF with CAP_PERFMON in the initial user
// namespace. It sees the whole machine.
//
// The limit of locked memory may stay: every kernel that has reasons accounts to memory cgroups.
// (The library's package for it works in init, before a guest's PID 1 has mounted anything.)
//
// Drops of connection tracking have the reason NETFILTER_DROP, like a rule's: the counter drop
// distinguishes them.
type dropWatcher struct {
	counts *ebpf.Map
	link   link.Link
	names  map[uint32]string
}

var errNoReasons = errors.New("this kernel gives no reasons with its drops (Linux 5.17 does)")

func watchDrops() (w *dropWatcher, err error) {
	w = &dropWatcher{}
	if w.names, err = reasonNames(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
			w = nil
		}
	}()
	w.counts, err = ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: dropReasons,
	})
	if err != nil {
		return w, fmt.Errorf("make the map of drops: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, Name: "ctload_drops", License: "Apache-2.0",
		Instructions: countDrops(w.counts.FD()),
	})
	if err != nil {
		return w, fmt.Errorf("load the program that counts drops: %w", err)
	}
	at := link.RawTracepointOptions{Name: "kfree_skb", Program: program}
	w.link, err = link.AttachRawTracepoint(at)
	err = errors.Join(err, program.Close()) // the link holds the program
	if err != nil {
		return w, fmt.Errorf("attach to the tracepoint kfree_skb: %w", err)
	}
	return w, nil
}

// countDrops increments the element of the reason, the third argument of kfree_skb(skb, location,
// reason, ...). The last element takes all reasons beyond the array.
func countDrops(counts int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, 16, asm.DWord),
		asm.LSh.Imm(asm.R1, 32), // an int in a register: only the lower half is defined
		asm.RSh.Imm(asm.R1, 32),
		asm.JLT.Imm(asm.R1, dropReasons-1, "known"),
		asm.Mov.Imm(asm.R1, dropReasons-1),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word).WithSymbol("known"),
		asm.LoadMapPtr(asm.R1, counts),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	}
}

// reasonNames returns the kernel's own names of its reasons, without their prefix.
func reasonNames() (map[uint32]string, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types (BTF): %w", err)
	}
	var reasons *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &reasons); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoReasons, err)
	}
	names := make(map[uint32]string, len(reasons.Values))
	for _, v := range reasons.Values {
		name := strings.TrimPrefix(v.Name, "SKB_DROP_REASON_")
		// MAX and SUBSYS_MASK are no reasons, nor is the value of a consumed packet.
		if v.Value < dropReasons-1 && name != "MAX" && name != "SUBSYS_MASK" {
			names[uint32(v.Value)] = name
		}
	}
	return names, nil
}

// read returns the number of packets by reason since the watcher began; it omits reasons without
// any.
func (w *dropWatcher) read() (map[string]int64, error) {
	keys, values := make([]uint32, dropReasons), make([]uint64, dropReasons)
	var cursor ebpf.MapBatchCursor
	n, err := w.counts.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // means that the end was reached
		return nil, fmt.Errorf("read the drops by reason: %w", err)
	}
	drops := map[string]int64{}
	for i := range n {
		if values[i] == 0 {
			continue
		}
		name, ok := w.names[keys[i]]
		switch {
		case !ok && keys[i] == dropReasons-1:
			name = otherReasons
		case !ok:
			name = fmt.Sprintf("reason %d", keys[i])
		}
		drops[name] += int64(values[i])
	}
	return drops, nil
}

func (w *dropWatcher) close() error {
	if w == nil {
		return nil
	}
	var err error
	if w.link != nil {
		err = w.link.Close()
	}
	return errors.Join(err, w.counts.Close()) // a nil map closes too
}

// dropsSince returns the difference from an earlier reading.
func dropsSince(now, base map[string]int64) map[string]int64 {
	for name, count := range base {
		if now[name] -= count; now[name] <= 0 {
			delete(now, name)
		}
	}
	return now
}
