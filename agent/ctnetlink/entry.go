package ctnetlink

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoinfo  = 4
	ctaHelp       = 5
	ctaTimeout    = 7
	ctaID         = 12
	ctaZone       = 18

	ctaHelpName = 1

	ctaTupleIP     = 1
	ctaTupleProto  = 2
	ctaIPv4Src     = 1
	ctaIPv4Dst     = 2
	ctaIPv6Src     = 3
	ctaIPv6Dst     = 4
	ctaProtoNum    = 1
	ctaProtoSource = 2
	ctaProtoTarget = 3
	ctaICMPType    = 5
	ctaICMPv6Type  = 8

	ctaProtoinfoTCP  = 1
	ctaProtoinfoSCTP = 3
	ctaProtoState    = 1 // CTA_PROTOINFO_TCP_STATE and its like

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
	ipsOffload   = 1 << 14
)

// Entry holds the properties of a table entry; its own tuple is that of the original direction.
type Entry struct {
	Tuple
	State            uint8 // by number; NoState for protocols without
	Replied, Assured bool
	Offloaded        bool  // a flow table forwards the connection
	Reply            Tuple // of an answer
	Zone             uint16
	// Left is the entry's remaining time in seconds; -1 where the kernel gives none.
	Left   int64
	Helper string // that reads the connection
	ID     uint32

	tuple, zone, id []byte // as the kernel sent them; valid as long as the message
}

// Tuple is one direction of a connection.
type Tuple struct {
	Protocol                    uint8 // by number
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
	Type                        uint8 // of ICMP
}

// NoState is the state of an entry whose protocol has none.
const NoState = 0xff

// Protocols holds the numbers of the protocols that the kernel tracks, by its names.
var Protocols = map[string]uint8{
	"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47,
	"icmpv6": 58, "sctp": 132, "udplite": 136,
}

// TCPStates lists the states by number, as the kernel spells them in /proc/net/nf_conntrack
// (tcp_conntrack_names).
var TCPStates = []string{
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
	"TIME_WAIT", "CLOSE", "SYN_SENT2",
}

var sctpStates = []string{
	"NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED",
	"SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
}

// protocolNames holds the names of Protocols by number.
var protocolNames = func() (names [256]string) {
	for name, number := range Protocols {
		names[number] = name
	}
	return names
}()

// ProtocolName returns the kernel's name of the entry's protocol, or its number.
func (e Entry) ProtocolName() string {
	if name := protocolNames[e.Protocol]; name != "" {
		return name
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

// StateName returns the state as /proc/net/nf_conntrack spells it, else UNREPLIED or REPLIED.
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
	e := Entry{State: NoState, Left: -1}
	err := Attributes(data, func(kind int, value []byte) error {
		switch kind {
		case ctaTupleOrig:
			e.tuple = value
			return Attributes(value, e.Tuple.read)
		case ctaTupleReply:
			return Attributes(value, e.Reply.read)
		case ctaID:
			e.id = value
			if len(value) == 4 {
				e.ID = binary.BigEndian.Uint32(value)
			}
		case ctaZone:
			e.zone = value
			if len(value) == 2 {
				e.Zone = binary.BigEndian.Uint16(value)
			}
		case ctaTimeout:
			if len(value) == 4 {
				e.Left = int64(binary.BigEndian.Uint32(value))
			}
		case ctaHelp:
			return Attributes(value, func(kind int, value []byte) error {
				if kind == ctaHelpName {
					e.Helper = string(bytes.TrimRight(value, "\x00"))
				}
				return nil
			})
		case ctaStatus:
			if len(value) == 4 {
				status := binary.BigEndian.Uint32(value)
				e.Replied, e.Assured = status&ipsSeenReply != 0, status&ipsAssured != 0
				e.Offloaded = status&ipsOffload != 0
			}
		case ctaProtoinfo:
			return Attributes(value, e.readState)
		}
		return nil
	})
	return e, err
}

// read takes one attribute of a tuple.
func (t *Tuple) read(kind int, value []byte) error {
	switch kind {
	case ctaTupleIP:
		return Attributes(value, func(kind int, value []byte) error {
			switch kind {
			case ctaIPv4Src, ctaIPv6Src:
				t.Source, _ = netip.AddrFromSlice(value)
			case ctaIPv4Dst, ctaIPv6Dst:
				t.Destination, _ = netip.AddrFromSlice(value)
			}
			return nil
		})
	case ctaTupleProto:
		return Attributes(value, func(kind int, value []byte) error {
			switch {
			case kind == ctaProtoNum && len(value) == 1:
				t.Protocol = value[0]
			case kind == ctaProtoSource && len(value) == 2:
				t.SourcePort = binary.BigEndian.Uint16(value)
			case kind == ctaProtoTarget && len(value) == 2:
				t.DestinationPort = binary.BigEndian.Uint16(value)
			case (kind == ctaICMPType || kind == ctaICMPv6Type) && len(value) == 1:
				t.Type = value[0]
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
