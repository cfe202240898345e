package faults

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/samplers"
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

	ctaProtoinfoTCP      = 1
	ctaProtoinfoTCPState = 1

	ipsAssured = 1 << 2
)

// entry holds the properties of a table entry that filters use, and those that its removal needs.
type entry struct {
	protocol, state             uint8 // by number; state is noState for protocols without
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	assured                     bool

	tuple, zone, id []byte // as the kernel sent them; valid as long as the message
}

// noState is the state of an entry whose protocol has none.
const noState = 0xff

// parseEntry reads the attributes of one entry.
func parseEntry(data []byte) (entry, error) {
	e := entry{state: noState}
	err := samplers.Attributes(data, func(kind int, value []byte) error {
		switch kind {
		case ctaTupleOrig:
			e.tuple = value
			return samplers.Attributes(value, e.readTuple)
		case ctaID:
			e.id = value
		case ctaZone:
			e.zone = value
		case ctaStatus:
			e.assured = len(value) == 4 && binary.BigEndian.Uint32(value)&ipsAssured != 0
		case ctaProtoinfo:
			return samplers.Attributes(value, func(kind int, value []byte) error {
				if kind != ctaProtoinfoTCP {
					return nil
				}
				return samplers.Attributes(value, func(kind int, value []byte) error {
					if kind == ctaProtoinfoTCPState && len(value) == 1 {
						e.state = value[0]
					}
					return nil
				})
			})
		}
		return nil
	})
	return e, err
}

func (e *entry) readTuple(kind int, value []byte) error {
	switch kind {
	case ctaTupleIP:
		return samplers.Attributes(value, func(kind int, value []byte) error {
			switch kind {
			case ctaIPv4Src, ctaIPv6Src:
				e.source, _ = netip.AddrFromSlice(value)
			case ctaIPv4Dst, ctaIPv6Dst:
				e.destination, _ = netip.AddrFromSlice(value)
			}
			return nil
		})
	case ctaTupleProto:
		return samplers.Attributes(value, func(kind int, value []byte) error {
			switch {
			case kind == ctaProtoNum && len(value) == 1:
				e.protocol = value[0]
			case kind == ctaProtoSource && len(value) == 2:
				e.sourcePort = binary.BigEndian.Uint16(value)
			case kind == ctaProtoTarget && len(value) == 2:
				e.destinationPort = binary.BigEndian.Uint16(value)
			}
			return nil
		})
	}
	return nil
}

const (
	nfnlSubsysCTNetlink = 1
	ipctnlMsgCTDelete   = 2
)

// appendDeletion appends the message that removes an entry: exactly that one, not a later one of
// the same tuple (CTA_ID).
func appendDeletion(message []byte, e entry) []byte {
	family := uint8(unix.AF_INET)
	if e.source.Is6() {
		family = unix.AF_INET6
	}
	begin := len(message)
	message = appendHeader(message, family)
	message = appendAttribute(message, ctaTupleOrig|unix.NLA_F_NESTED, e.tuple)
	if e.zone != nil {
		message = appendAttribute(message, ctaZone, e.zone)
	}
	if e.id != nil {
		message = appendAttribute(message, ctaID, e.id)
	}
	binary.NativeEndian.PutUint32(message[begin:], uint32(len(message)-begin))
	return message
}

// flushRequest returns the message that removes all entries of the network namespace.
func flushRequest() []byte {
	message := appendHeader(nil, unix.AF_UNSPEC)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	return message
}

// appendHeader appends struct nlmsghdr, whose length the caller fills in, and struct nfgenmsg.
func appendHeader(message []byte, family uint8) []byte {
	message = append(message, 0, 0, 0, 0)
	message = binary.NativeEndian.AppendUint16(message, nfnlSubsysCTNetlink<<8|ipctnlMsgCTDelete)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = append(message, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port
	return append(message, family, unix.NFNETLINK_V0, 0, 0)
}

func appendAttribute(message []byte, kind uint16, value []byte) []byte {
	message = binary.NativeEndian.AppendUint16(message, uint16(unix.SizeofNlAttr+len(value)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = append(message, value...)
	for len(message)%unix.NLA_ALIGNTO != 0 {
		message = append(message, 0)
	}
	return message
}
