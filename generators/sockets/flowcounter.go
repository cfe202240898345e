package sockets

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/tuples"
)

// Flows describes packets by their tuples.
type Flows struct {
	Protocol    uint8        // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Source      netip.Prefix // network of the source addresses
	Target      netip.Addr   // destination address
	SourcePorts string       // as [tuples.ParsePorts] reads them
	TargetPorts string       // likewise
}

// FlowCounter counts the packets of some flows that one interface receives. Its packet socket reads
// none of them: the kernel counts what passes the filter, whether the socket's queue takes it or
// not.
type FlowCounter struct {
	fd    int32
	count int64
}

// CountFlows begins to count the packets of flows that an interface receives. It needs CAP_NET_RAW
// in the network namespace.
func CountFlows(index int, flows Flows) (*FlowCounter, error) {
	program, err := flows.filter()
	if err != nil {
		return nil, err
	}
	fd, err := packetSocket(index)
	if err != nil {
		return nil, err
	}
	_ = SetOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) // the kernel has a minimum
	// Frames that the interface sends are then not even shown to the filter (Linux 4.20), which
	// refuses them on every kernel.
	_ = SetOption(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// A tap on all protocols sees a frame before the kernel's own handlers, which then own it
	// alone: they need no copy of it.
	if err = attachFilter(fd, program...); err == nil {
		err = bindPackets(fd, index, unix.ETH_P_ALL)
	}
	if err != nil {
		Close(fd)
		return nil, err
	}
	return &FlowCounter{fd: fd}, nil
}

// Count returns the number of packets so far. It must be called before 2^32 more have come.
func (c *FlowCounter) Count() (int64, error) {
	var stats unix.TpacketStats // since the last reading; Packets has the dropped ones too
	if _, errno := getOption(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS, &stats); errno != 0 {
		return c.count, fmt.Errorf("reading the statistics of a packet socket: %w", errno)
	}
	c.count += int64(stats.Packets)
	return c.count, nil
}

// Close ends the counting.
func (c *FlowCounter) Close() { Close(c.fd) }

// reject ends a filter for a frame that does not belong to the flows.
var reject = bpf.RetConstant{Val: 0}

// filter returns a program that accepts the packets of the flows.
func (f Flows) filter() ([]bpf.Instruction, error) {
	const ethernet = 14
	family, protocolAt, sourceAt := uint32(unix.ETH_P_IP), uint32(ethernet+9), uint32(ethernet+12)
	if f.Target.Is6() {
		family, protocolAt, sourceAt = unix.ETH_P_IPV6, ethernet+6, ethernet+8
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1}, reject,
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: family, SkipTrue: 1}, reject,
		bpf.LoadAbsolute{Off: protocolAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(f.Protocol), SkipTrue: 1}, reject,
	}
	source := f.Source.Masked()
	targetAt := sourceAt + uint32(source.Addr().BitLen()/8)
	program = append(program, matchAddress(sourceAt, source)...)
	program = append(program, matchAddress(targetAt,
		netip.PrefixFrom(f.Target, f.Target.BitLen()))...)
	program = append(program, bpf.LoadMemShift{Off: ethernet}) // length of an IPv4 header
	if f.Target.Is6() {
		program[len(program)-1] = bpf.LoadConstant{Dst: bpf.RegX, Val: 40}
	}
	for i, text := range []string{f.SourcePorts, f.TargetPorts} {
		ports, err := tuples.ParsePorts(text)
		if err != nil {
			return nil, fmt.Errorf("ports of flows: %w", err)
		}
		program = append(program, bpf.LoadIndirect{Off: ethernet + 2*uint32(i), Size: 2})
		program = append(program, matchPorts(ports)...)
	}
	return append(program, bpf.RetConstant{Val: 1}), nil
}

// matchAddress rejects a frame whose address at an offset is not in a network.
func matchAddress(at uint32, network netip.Prefix) (program []bpf.Instruction) {
	raw := network.Addr().AsSlice()
	for i := 0; i*32 < network.Bits(); i++ {
		word := binary.BigEndian.Uint32(raw[4*i:])
		program = append(program, bpf.LoadAbsolute{Off: at + 4*uint32(i), Size: 4})
		if bits := network.Bits() - 32*i; bits < 32 {
			mask := ^uint32(0) << (32 - bits)
			program = append(program, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: word, SkipTrue: 1}, reject)
	}
	return program
}

// matchPorts rejects a frame whose port, in the accumulator, is none of ports.
func matchPorts(ports []uint16) (program []bpf.Instruction) {
	ports = slices.Sorted(slices.Values(ports))
	var ranges [][2]uint16
	for _, port := range ports {
		if n := len(ranges); n > 0 && ranges[n-1][1]+1 == port {
			ranges[n-1][1] = port
		} else {
			ranges = append(ranges, [2]uint16{port, port})
		}
	}
	for i, r := range ranges {
		after := 3 * (len(ranges) - i - 1)
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(r[0]), SkipFalse: 2},
			bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: uint32(r[1]), SkipFalse: 1},
			bpf.Jump{Skip: uint32(after) + 1})
	}
	return append(program, reject)
}
