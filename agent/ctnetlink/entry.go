package ctnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig = 1
	ctaStatus    = 3
	ctaProtoinfo = 4
	ctaID        = 12
	ctaZone      = 18

	ctaTupleIP     = 1
	ctaTupleProto  = 2
	ctaIPv4Src     = 1
	ctaIPv4Dst     = 2
	ctaIPv6Src     = 3
	ctaIPv6Dst     = 4
	ctaProtoNum    = 1
	ctaProtoSource = 2
	ctaProtoTarget = 3

	ctaProtoinfoTCP  = 1
	ctaProtoinfoSCTP = 3
	ctaProtoState    = 1 // CTA_PROTOINFO_TCP_STATE and its like

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
)

// Entry holds the properties of a table entry; addresses and ports are of the original direction.
type Entry struct {
	Protocol, State             uint8 // by number; State is NoState for protocols without
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
	Replied, Assured            bool

	tuple, zone, id []byte // as the kernel sent them; valid as long as the message
}

// NoState is the state of an entry whose protocol has none.
const NoState = 0xff

// Protocols holds the numbers of the protocols that the kernel tracks, by its names.
var Protocols = map[string]uint8{
	"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136,
}

// TCPStates lists the states by number, as the kernel spells them in /proc/net/nf_conntrack
// (tcp_conntrack_names).
var TCPStates = []string{
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
	"CLOSE", "SYN_SENT2",
}

var sctpStates = []string{
	"NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
	"SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
}

// ProtocolName returns the kernel's name of the entry's protocol, or its number.
func (e Entry) ProtocolName() string {
	for name, number := range Protocols {
		if number == e.Protocol {
			return name
		}
	}
	return strconv.Itoa(int(e.Protocol))
}

// States lists the states of the entry's protocol by number; nil for a protocol without states.
func (e Entry) States() []string {
	switch e.Protocol {
	case unix.IPPROTO_TCP:
		return TCPStates
	case unix.IPPROTO_SCTP:
		return sctpStates
	}
	return nil
}

// StateName returns the state as /proc/net/nf_conntrack spells it; UNREPLIED or REPLIED without one.
func (e Entry) StateName() string {
	switch names := e.States(); {
	case e.State == NoState && e.Replied:
		return "REPLIED"
	case e.State == NoState:
		return "UNREPLIED"
	case int(e.State) < len(names):
		return names[e.State]
	}
	return "state " + strconv.Itoa(int(e.State))
}

// parseEntry reads the attributes of one entry.
func parseEntry(data []byte) (Entry, error) {
	e := Entry{State: NoState}
	err := Attributes(data, func(kind int, value []byte) error {
		switch kind {
		case ctaTupleOrig:
			e.tuple = value
			return Attributes(value, e.readTuple)
		case ctaID:
			e.id = value
		case ctaZone:
			e.zone = value
		case ctaStatus:
			if len(value) == 4 {
				status := binary.BigEndian.Uint32(value)
				e.Replied, e.Assured = status&ipsSeenReply != 0, status&ipsAssured != 0
			}
		case ctaProtoinfo:
			return Attributes(value, e.readState)
		}
		return nil
	})
	return e, err
}

func (e *Entry) readTuple(kind int, value []byte) error {
	switch kind {
	case ctaTupleIP:
		return Attributes(value, func(kind int, value []byte) error {
			switch kind {
			case ctaIPv4Src, ctaIPv6Src:
				e.Source, _ = netip.AddrFromSlice(value)
			case ctaIPv4Dst, ctaIPv6Dst:
				e.Destination, _ = netip.AddrFromSlice(value)
			}
			return nil
		})
	case ctaTupleProto:
		return Attributes(value, func(kind int, value []byte) error {
			switch {
			case kind == ctaProtoNum && len(value) == 1:
				e.Protocol = value[0]
			case kind == ctaProtoSource && len(value) == 2:
				e.SourcePort = binary.BigEndian.Uint16(value)
			case kind == ctaProtoTarget && len(value) == 2:
				e.DestinationPort = binary.BigEndian.Uint16(value)
			}
			return nil
		})
	}
	return nil
}

func (e *Entry) readState(kind int, value []byte) error {
	if kind != ctaProtoinfoTCP && kind != ctaProtoinfoSCTP {
		return nil
	}
	return Attributes(value, func(kind int, value []byte) error {
		if kind == ctaProtoState && len(value) == 1 {
			e.State = value[0]
		}
		return nil
	})
}

// ErrFormat means that a message does not have the format of ctnetlink.
var ErrFormat = errors.New("not the format of ctnetlink")

// Attributes calls each for every netlink attribute in data, without copying. The numbers come
// without the flags that share their field.
func Attributes(data []byte, each func(kind int, value []byte) error) error {
	const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(data) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(data))
		kind := int(binary.NativeEndian.Uint16(data[2:])) &^ flags
		if length < unix.SizeofNlAttr || length > len(data) {
			return fmt.Errorf("%w: attribute %d of %d bytes in %d", ErrFormat, kind, length, len(data))
		}
		if err := each(kind, data[unix.SizeofNlAttr:length]); err != nil {
			return err
		}
		data = data[min(align(length), len(data)):]
	}
	return nil
}

// align rounds up to the four bytes that messages and attributes are aligned to.
func align(length int) int { return (length + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
