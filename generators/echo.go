package generators

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
)

// echo makes and reads the ICMP echo messages of the icmp probe. It uses the kernel's unprivileged
// ping sockets where net.ipv4.ping_group_range permits them, else raw sockets (CAP_NET_RAW in the
// network namespace).
type echo struct {
	four bool
	raw  bool
	// next is the next identifier, for raw sockets. The kernel chooses that of ping sockets.
	next uint16
}

const (
	echoHeader  = 8
	maxIPHeader = 60
)

func newEcho(four bool, number int) *echo {
	// Any start serves that other workers and pings on this host do not use. The label in the
	// payload tells our messages from theirs.
	return &echo{four: four, next: uint16(unix.Getpid()*7919 + number*1009)}
}

// open opens a socket for echo requests.
func (e *echo) open() (int32, unix.Errno) {
	family, protocol := unix.AF_INET6, unix.IPPROTO_ICMPV6
	if e.four {
		family, protocol = unix.AF_INET, unix.IPPROTO_ICMP
	}
	if !e.raw {
		fd, errno := sockets.Open(family, unix.SOCK_DGRAM, protocol)
		if errno != unix.EACCES && errno != unix.EPERM && errno != unix.EPROTONOSUPPORT {
			return fd, errno
		}
		e.raw = true
	}
	e.next++
	return sockets.Open(family, unix.SOCK_RAW, protocol)
}

// payload returns the part of a message after the ICMP header.
func (e *echo) payload(message []byte) []byte { return message[echoHeader:] }

// seal writes the header of an echo request (RFC 792, RFC 4443). Ping sockets set identifier and
// checksum themselves, and the kernel sets the checksum of ICMPv6.
func (e *echo) seal(message []byte, sequence int32) {
	clear(message[:echoHeader])
	message[0] = 128
	if e.four {
		message[0] = 8
	}
	binary.BigEndian.PutUint16(message[4:], e.next)
	binary.BigEndian.PutUint16(message[6:], uint16(sequence))
	if e.four {
		binary.BigEndian.PutUint16(message[2:], packets.Checksum(message))
	}
}

// reply returns the payload of an echo reply, or false for anything else.
func (e *echo) reply(message []byte) ([]byte, bool) {
	if e.raw && e.four { // a raw IPv4 socket returns the IP header too
		if len(message) < 20 {
			return nil, false
		}
		header := int(message[0]&0x0f) * 4
		if header < 20 || len(message) < header {
			return nil, false
		}
		message = message[header:]
	}
	want := byte(129)
	if e.four {
		want = 0
	}
	if len(message) < echoHeader || message[0] != want {
		return nil, false
	}
	return message[echoHeader:], true
}
