package generators

import (
	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// Sockets that are connected again. To make, watch and free a socket is a fifth of what the kernel does for
// a short connection, and a socket that was disconnected can be connected anew, to another port and from
// another one.
//
// What travels is what fresh sockets send, but for the first sequence number: the kernel goes on from the
// socket's last connection instead of drawing one for the tuple. A peer looks at it when the tuple is still
// in TIME_WAIT there, and then only if the connection has no timestamps (RFC 6191). So a socket is kept
// after a RST, which leaves no TIME_WAIT, or if it had timestamps; and only while its buffers have not grown,
// since the window of the next SYN would show it.

// mostReusable is how many sockets wait to be connected again.
const mostReusable = 256

// reusableBytes is how much a connection may have carried in either direction: less than the kernel's first
// look at whether the buffers should be larger, which comes after ten segments.
const reusableBytes = 4096

// reusesSockets reports whether the sockets of a load may be connected again: not where the port is named,
// which its socket keeps for ever, where a connection has a life after its end (timers, a list of idle ones),
// where several hosts may disagree on timestamps, or where a fresh socket is the point.
func (p *plan) reusesSockets() bool {
	brief := p.Kind == HTTP && p.KeepAlive == 1 || p.Kind == TCP && p.Hold == 0
	ends := p.Close == CloseFIN || p.Close == CloseRST
	return brief && ends && p.AtOnce <= 1 && p.SourcePorts == "" && p.space.Targets.Len() == 1 && p.Payload <= reusableBytes
}

// reusableFor binds a reusable socket to the tuple's source and returns its slot, none without one.
func (s *stream) reusableFor(tuple tuples.Tuple) int32 {
	last := len(s.reusable) - 1
	if last < 0 {
		return deadlines.None
	}
	i := s.reusable[last]
	s.reusable = s.reusable[:last]
	if s.bind(s.slot(i).fd, tuple) != 0 {
		s.remove(i)
		return deadlines.None
	}
	s.remote.Set(tuple.Target)
	return i
}

// keep makes the socket of a connection that has ended a reusable one, still watched, and reports whether it
// did. If it is still connected, the peer gets the RST that it would get from a close without lingering.
func (s *stream) keep(i int32) bool {
	c := s.slot(i)
	if !s.reuses || len(s.reusable) >= mostReusable || s.load.stopped.Load() || c.received > reusableBytes || sockets.Disconnect(c.fd) != 0 {
		return false
	}
	s.waiting.Remove(i)
	s.leave(c)
	*c = conn{fd: c.fd, generation: c.generation + 1, registered: c.registered, watched: c.watched, state: unconnected, requests: int32(s.load.KeepAlive)}
	s.reusable = append(s.reusable, i)
	return true
}

// finish sends the FIN of a connection whose peer has sent its own, and reports whether the socket can be
// kept: when that has ended the connection at once, as it mostly does on one machine, and it had timestamps.
func (s *stream) finish(c *conn) bool {
	if !s.reuses || !c.left || !s.prompt.Try() || sockets.HalfClose(c.fd) != 0 {
		return false
	}
	state, options := sockets.TCPInfo(c.fd)
	s.prompt.Learn(state == sockets.TCPClosed)
	return state == sockets.TCPClosed && options&sockets.TCPTimestamps != 0
}
