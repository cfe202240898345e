package generators

import "golang.org/x/sys/unix"

// Cause says why a request, connection or flow failed. Its strings are the keys of [Result.Causes].
type Cause string

// The causes.
const (
	Timeout     Cause = "timeout"     // nothing decisive within Spec.Timeout
	Reset       Cause = "reset"       // RST from the peer or a firewall, once established
	Refused     Cause = "refused"     // RST in answer to the SYN, or ICMP port unreachable
	Unreachable Cause = "unreachable" // ICMP says so, or no route or neighbour
	// EPERM means that this host's own netfilter (a rule, or a full table) dropped the packet.
	EPERM        Cause = "eperm"
	NoPort       Cause = "no-port"       // no free source port or address here
	NoDescriptor Cause = "no-descriptor" // the process or the host is out of descriptors
	NoBuffer     Cause = "no-buffer"     // this host had no memory or queue room for the packet
	// ClosedEarly means that the peer closed before its answer was complete, or while the
	// connection was held.
	ClosedEarly Cause = "closed-early"
	// BadResponse means not HTTP, an HTTP status of 400 or above, or unexpected bytes.
	BadResponse Cause = "bad-response"
	Cancelled   Cause = "cancelled" // unfinished when the context ended
	Other       Cause = "other"
)

// causeNumber indexes the counters of the workers.
type causeNumber uint8

var causes = [...]Cause{Timeout, Reset, Refused, Unreachable, EPERM, NoPort, NoDescriptor, NoBuffer, ClosedEarly, BadResponse, Cancelled, Other}

const (
	causeTimeout causeNumber = iota
	causeReset
	causeRefused
	causeUnreachable
	causeEPERM
	causeNoPort
	causeNoDescriptor
	causeNoBuffer
	causeClosedEarly
	causeBadResponse
	causeCancelled
	causeOther
)

// causeOf returns the cause for an errno. The kernel tells a refused connection from a reset one: a
// RST in state SYN_SENT gives ECONNREFUSED, a later one ECONNRESET or EPIPE.
func causeOf(errno unix.Errno) causeNumber {
	switch errno {
	case unix.ETIMEDOUT:
		return causeTimeout
	case unix.ECONNRESET, unix.EPIPE, unix.ECONNABORTED:
		return causeReset
	case unix.ECONNREFUSED:
		return causeRefused
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.ENOPROTOOPT, unix.EPROTO:
		return causeUnreachable
	case unix.EPERM, unix.EACCES:
		return causeEPERM
	case unix.EADDRNOTAVAIL, unix.EADDRINUSE, unix.EAGAIN:
		return causeNoPort
	case unix.EMFILE, unix.ENFILE:
		return causeNoDescriptor
	case unix.ENOBUFS, unix.ENOMEM:
		return causeNoBuffer
	}
	return causeOther
}
