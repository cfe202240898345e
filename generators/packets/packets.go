// Package packets makes Ethernet frames from templates and parses the answers. It is pure:
// addresses in, bytes out.
package packets

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// HardwareAddress is an Ethernet address.
type HardwareAddress [6]byte

// Link holds the two ends of the Ethernet link that carries the frames.
type Link struct{ Source, Target HardwareAddress }

// Flags are TCP's control bits.
type Flags uint8

// The control bits (RFC 9293).
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
)

const (
	ethernetSize = 14
	ipv4Size     = 20
	ipv6Size     = 40
	tcpSize      = 20
	udpSize      = 8
	echoSize     = 8

	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd

	timeToLive = 64
	window     = 65535
)

// Template is a frame whose addresses, ports and numbers are zero, with valid checksums. Its
// methods patch copies of the frame, any number of times.
type Template struct {
	Frame []byte

	source   int // offset of the source address; the target address follows it
	size     int // bytes of an address
	upper    int // offset of the TCP, UDP or ICMP header
	checksum int // offset of its checksum
	pseudo   bool
	nonzero  bool // a checksum of 0 would say that the packet has none
}

// NewTCP returns a template of TCP segments without options.
func NewTCP(link Link, six bool, flags Flags, payload []byte) Template {
	header := make([]byte, tcpSize, tcpSize+len(payload))
	header[12] = tcpSize / 4 << 4
	header[13] = byte(flags)
	binary.BigEndian.PutUint16(header[14:], window)
	return newTemplate(link, six, protocolTCP, 16, append(header, payload...))
}

// NewUDP returns a template of UDP datagrams.
func NewUDP(link Link, six bool, payload []byte) Template {
	header := make([]byte, udpSize, udpSize+len(payload))
	binary.BigEndian.PutUint16(header[4:], uint16(udpSize+len(payload)))
	return newTemplate(link, six, protocolUDP, 6, append(header, payload...))
}

// NewEcho returns a template of ICMP or ICMPv6 echo requests.
func NewEcho(link Link, six bool, payload []byte) Template {
	header := make([]byte, echoSize, echoSize+len(payload))
	header[0] = 8
	protocol := byte(protocolICMP)
	if six {
		header[0], protocol = 128, protocolICMPv6
	}
	return newTemplate(link, six, protocol, 2, append(header, payload...))
}

func newTemplate(link Link, six bool, protocol byte, checksum int, upper []byte) Template {
	frame := slices.Concat(link.Target[:], link.Source[:])
	t := Template{pseudo: protocol != protocolICMP, nonzero: protocol == protocolUDP}
	if six {
		frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv6)
		ip := make([]byte, ipv6Size)
		ip[0] = 6 << 4
		binary.BigEndian.PutUint16(ip[4:], uint16(len(upper)))
		ip[6], ip[7] = protocol, timeToLive
		frame = append(frame, ip...)
		t.source, t.size = ethernetSize+8, 16
	} else {
		frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv4)
		ip := make([]byte, ipv4Size)
		ip[0] = 4<<4 | ipv4Size/4
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Size+len(upper)))
		ip[6] = 0x40 // do not fragment
		ip[8], ip[9] = timeToLive, protocol
		binary.BigEndian.PutUint16(ip[10:], Checksum(ip))
		frame = append(frame, ip...)
		t.source, t.size = ethernetSize+12, 4
	}
	t.upper = len(frame)
	t.checksum = t.upper + checksum
	t.Frame = slices.Concat(frame, upper)
	sum := sum(0, upper)
	if t.pseudo { // the addresses of the pseudo header are zero
		sum += uint64(protocol) + uint64(len(upper))
	}
	t.putChecksum(t.Frame, ^fold(sum))
	return t
}

// SetTCP patches a copy of a TCP template into the segment from source to target with these
// numbers. It derives the checksums from the changes (RFC 1624), so it does not read the rest of
// the frame.
func (t *Template) SetTCP(frame []byte, source, target netip.AddrPort, sequence, ack uint32) {
	before, after := t.setAddresses(frame, source.Addr(), target.Addr())
	header := frame[t.upper : t.upper+12 : t.upper+12]
	before = sum(before, header)
	putPorts(header, source, target)
	binary.BigEndian.PutUint32(header[4:], sequence)
	binary.BigEndian.PutUint32(header[8:], ack)
	t.setChecksum(frame, before, sum(after, header))
}

// SetUDP patches a copy of a UDP template into the datagram from source to target.
func (t *Template) SetUDP(frame []byte, source, target netip.AddrPort) {
	before, after := t.setAddresses(frame, source.Addr(), target.Addr())
	header := frame[t.upper : t.upper+4 : t.upper+4]
	before = sum(before, header)
	putPorts(header, source, target)
	t.setChecksum(frame, before, sum(after, header))
}

func putPorts(header []byte, source, target netip.AddrPort) {
	binary.BigEndian.PutUint16(header, source.Port())
	binary.BigEndian.PutUint16(header[2:], target.Port())
}

// SetEcho patches a copy of an echo template into the request from source to target with this
// identifier and number.
func (t *Template) SetEcho(frame []byte, source, target netip.Addr, identifier, sequence uint16) {
	before, after := t.setAddresses(frame, source, target)
	if !t.pseudo {
		before, after = 0, 0
	}
	header := frame[t.upper+4 : t.upper+8 : t.upper+8]
	before = sum(before, header)
	binary.BigEndian.PutUint16(header, identifier)
	binary.BigEndian.PutUint16(header[2:], sequence)
	t.setChecksum(frame, before, sum(after, header))
}

// setAddresses writes the addresses and the IPv4 checksum. It returns the sums of the old and the
// new addresses.
func (t *Template) setAddresses(frame []byte, source, target netip.Addr) (before, after uint64) {
	addresses := frame[t.source : t.source+2*t.size : t.source+2*t.size]
	before = sum(0, addresses)
	if t.size == 4 {
		s, d := source.As4(), target.As4()
		copy(addresses, s[:])
		copy(addresses[4:], d[:])
		after = sum(0, addresses)
		field := frame[ethernetSize+10 : ethernetSize+12]
		checksum := update(binary.BigEndian.Uint16(field), before, after)
		binary.BigEndian.PutUint16(field, checksum)
		return before, after
	}
	s, d := source.As16(), target.As16()
	copy(addresses, s[:])
	copy(addresses[16:], d[:])
	return before, sum(0, addresses)
}

func (t *Template) setChecksum(frame []byte, before, after uint64) {
	old := binary.BigEndian.Uint16(frame[t.checksum : t.checksum+2])
	t.putChecksum(frame, update(old, before, after))
}

// putChecksum writes a checksum. A UDP checksum of 0 is sent as 0xffff, the other zero of one's
// complement (RFC 768).
func (t *Template) putChecksum(frame []byte, checksum uint16) {
	if checksum == 0 && t.nonzero {
		checksum = 0xffff
	}
	binary.BigEndian.PutUint16(frame[t.checksum:], checksum)
}

// ParseHardwareAddress parses an Ethernet address such as "02:00:00:00:00:01".
func ParseHardwareAddress(text string) (HardwareAddress, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != len(HardwareAddress{}) {
		return HardwareAddress{}, fmt.Errorf(
			"%q is no Ethernet address, such as 02:00:00:00:00:01", text)
	}
	return HardwareAddress(mac), nil
}

// sum adds data to an unfolded one's complement sum (RFC 1071). Data of odd length counts as if a
// zero byte followed, so only the last piece may have one.
func sum(sum uint64, data []byte) uint64 {
	for len(data) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(data))
		data = data[4:]
	}
	if len(data) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) == 1 {
		sum += uint64(data[0]) << 8
	}
	return sum
}

// fold reduces an unfolded sum to 16 bits.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// Checksum returns the Internet checksum of data (RFC 1071).
func Checksum(data []byte) uint16 { return ^fold(sum(0, data)) }

// update returns the checksum after a part of the data changed. It computes it from the old
// checksum and the unfolded sums of the old and the new part: HC' = ~(~HC + ~m + m') (RFC 1624,
// equation 3, which unlike RFC 1141's gives the right one of the two zeros).
func update(checksum uint16, before, after uint64) uint16 {
	return ^fold(uint64(^checksum) + uint64(^fold(before)) + after)
}

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
	kind := binary.BigEndian.Uint16(frame[12:])
	ip := parseIP(frame[ethernetSize:])
	switch {
	case kind != etherTypeIPv4 && kind != etherTypeIPv6:
	case ip.protocol == protocolTCP:
		return parseTCP(ip)
	case ip.protocol == protocolICMP, ip.protocol == protocolICMPv6:
		return parseICMP(ip)
	}
	return Answer{}
}

// ipPacket holds the fields of an IP packet that the parser needs.
type ipPacket struct {
	source, target netip.Addr
	protocol       byte
	upper          []byte
	// length is upper's by the IP header: a capture may hold less, a short frame more.
	length int
}

// parseIP returns zeros for anything but the first fragment of an IP packet.
func parseIP(packet []byte) ipPacket {
	if len(packet) < ipv4Size {
		return ipPacket{}
	}
	switch packet[0] >> 4 {
	case 4:
		header := int(packet[0]&0x0f) * 4
		fragment := binary.BigEndian.Uint16(packet[6:])&0x1fff != 0
		if header < ipv4Size || len(packet) < header || fragment {
			return ipPacket{}
		}
		return ipPacket{
			source:   netip.AddrFrom4([4]byte(packet[12:16])),
			target:   netip.AddrFrom4([4]byte(packet[16:20])),
			protocol: packet[9],
			upper:    packet[header:],
			length:   int(binary.BigEndian.Uint16(packet[2:])) - header,
		}
	case 6:
		if len(packet) < ipv6Size {
			return ipPacket{}
		}
		return ipPacket{
			source:   netip.AddrFrom16([16]byte(packet[8:24])),
			target:   netip.AddrFrom16([16]byte(packet[24:40])),
			protocol: packet[6],
			upper:    packet[ipv6Size:],
			length:   int(binary.BigEndian.Uint16(packet[4:])),
		}
	}
	return ipPacket{}
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
	ip := parseIP(packet)
	h := ip.upper
	if len(h) < 8 {
		return Answer{}
	}
	a := Answer{Kind: kind}
	var from, to uint16
	switch ip.protocol {
	case protocolTCP:
		from, to = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
		a.Sequence = binary.BigEndian.Uint32(h[4:])
	case protocolICMP, protocolICMPv6:
		from, a.Sequence = binary.BigEndian.Uint16(h[4:]), uint32(binary.BigEndian.Uint16(h[6:]))
	default:
		return Answer{}
	}
	a.Source, a.Target = netip.AddrPortFrom(ip.source, from), netip.AddrPortFrom(ip.target, to)
	return a
}
