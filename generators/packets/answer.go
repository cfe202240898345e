package packets

import (
	"encoding/binary"
	"net/netip"
)

// AnswerKind says how a received frame answers a packet.
type AnswerKind uint8

// The kinds of answer.
const (
	Unrelated   AnswerKind = iota // answers no packet of a generator
	SYNACK                        // the second step of a handshake
	Opening                       // a SYN, the first step: what a responder waits for
	Segment                       // any other TCP segment
	Resetting                     // RST
	Replying                      // an echo reply
	Refusing                      // ICMP: port or protocol unreachable
	Unreachable                   // ICMP: any other destination unreachable
)

// Answer describes a received frame, from the view of the packet that it answers. Source is the
// address from which the generator sent, Target the one to which it sent. For echo messages the
// source's port is the identifier. For an Opening, Source and Target are the frame's own.
type Answer struct {
	Kind           AnswerKind
	Source, Target netip.AddrPort
	Sequence       uint32 // of the frame; of an echo reply, its number
	Acknowledged   uint32
	Flags          Flags
	Payload        int // bytes of a TCP segment, by the length in the IP header
}

// Parse parses a frame from its Ethernet header on. It returns Unrelated for what it does not
// understand: fragments, IPv6 extension headers, truncated frames.
func Parse(frame []byte) Answer {
	if len(frame) < ethernetSize {
		return Answer{}
	}
	packet := frame[ethernetSize:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeIPv4, etherTypeIPv6:
	default:
		return Answer{}
	}
	ip, ok := parseIP(packet)
	if !ok {
		return Answer{}
	}
	switch ip.protocol {
	case protocolTCP:
		return parseTCP(ip)
	case protocolICMP, protocolICMPv6:
		return parseICMP(ip)
	}
	return Answer{}
}

// ipPacket holds the fields of an IP packet that the parser needs.
type ipPacket struct {
	source, target netip.Addr
	protocol       byte
	upper          []byte
	// length, in bytes, is what the IP header gives for upper: a capture may hold less, a short frame more.
	length int
}

func parseIP(packet []byte) (ipPacket, bool) {
	if len(packet) < 1 {
		return ipPacket{}, false
	}
	switch packet[0] >> 4 {
	case 4:
		header := int(packet[0]&0x0f) * 4
		fragment := len(packet) >= 8 && binary.BigEndian.Uint16(packet[6:])&0x1fff != 0
		if header < ipv4Size || len(packet) < header || fragment {
			return ipPacket{}, false
		}
		return ipPacket{
			source:   netip.AddrFrom4([4]byte(packet[12:16])),
			target:   netip.AddrFrom4([4]byte(packet[16:20])),
			protocol: packet[9],
			upper:    packet[header:],
			length:   int(binary.BigEndian.Uint16(packet[2:])) - header,
		}, true
	case 6:
		if len(packet) < ipv6Size {
			return ipPacket{}, false
		}
		return ipPacket{
			source:   netip.AddrFrom16([16]byte(packet[8:24])),
			target:   netip.AddrFrom16([16]byte(packet[24:40])),
			protocol: packet[6],
			upper:    packet[ipv6Size:],
			length:   int(binary.BigEndian.Uint16(packet[4:])),
		}, true
	}
	return ipPacket{}, false
}

func parseTCP(ip ipPacket) Answer {
	h := ip.upper
	if len(h) < tcpSize {
		return Answer{}
	}
	from := netip.AddrPortFrom(ip.source, binary.BigEndian.Uint16(h))
	to := netip.AddrPortFrom(ip.target, binary.BigEndian.Uint16(h[2:]))
	a := Answer{
		Kind:         Segment,
		Source:       to, // the answer's target is the address that it answers
		Target:       from,
		Sequence:     binary.BigEndian.Uint32(h[4:]),
		Acknowledged: binary.BigEndian.Uint32(h[8:]),
		Flags:        Flags(h[13]),
		Payload:      max(ip.length-int(h[12]>>4)*4, 0),
	}
	switch {
	case a.Flags&RST != 0:
		a.Kind = Resetting
	case a.Flags&(SYN|ACK) == SYN|ACK:
		a.Kind = SYNACK
	case a.Flags&SYN != 0:
		a.Kind, a.Source, a.Target = Opening, from, to
	}
	return a
}

func parseICMP(ip ipPacket) Answer {
	h := ip.upper
	if len(h) < echoSize {
		return Answer{}
	}
	six := ip.protocol == protocolICMPv6
	switch kind, code := h[0], h[1]; {
	case kind == 0 && !six, kind == 129 && six:
		return Answer{
			Kind:     Replying,
			Source:   netip.AddrPortFrom(ip.target, binary.BigEndian.Uint16(h[4:])),
			Target:   netip.AddrPortFrom(ip.source, 0),
			Sequence: uint32(binary.BigEndian.Uint16(h[6:])),
		}
	case kind == 3 && !six && (code == 2 || code == 3), kind == 1 && six && code == 4:
		return quoted(h[echoSize:], Refusing)
	case kind == 3 && !six, kind == 1 && six:
		return quoted(h[echoSize:], Unreachable)
	}
	return Answer{}
}

// quoted parses the packet that an ICMP error quotes. At least 8 bytes follow its IP header: the
// ports, or the identifier of an echo request.
func quoted(packet []byte, kind AnswerKind) Answer {
	ip, ok := parseIP(packet)
	if !ok || len(ip.upper) < 8 {
		return Answer{}
	}
	a := Answer{Kind: kind, Source: netip.AddrPortFrom(ip.source, 0), Target: netip.AddrPortFrom(ip.target, 0)}
	switch ip.protocol {
	case protocolTCP:
		a.Source = netip.AddrPortFrom(ip.source, binary.BigEndian.Uint16(ip.upper))
		a.Target = netip.AddrPortFrom(ip.target, binary.BigEndian.Uint16(ip.upper[2:]))
		a.Sequence = binary.BigEndian.Uint32(ip.upper[4:])
	case protocolICMP, protocolICMPv6:
		a.Source = netip.AddrPortFrom(ip.source, binary.BigEndian.Uint16(ip.upper[4:]))
		a.Sequence = uint32(binary.BigEndian.Uint16(ip.upper[6:]))
	default:
		return Answer{}
	}
	return a
}
