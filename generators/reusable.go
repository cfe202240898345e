package generators

import (
	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// This file connects sockets again. To make, watch and free a socket is a fifth of the kernel's
// work for a short connection. A disconnected socket can be connected anew, to another port and
// from another one.
//
// Its packets equal those of a fresh socket, but for the first sequence number: the kernel goes on
// from the socket's last connection instead of drawing one for the tuple. A peer checks that number
// when it still has the tuple in TIME_WAIT, and then only if the connection has no timestamps (RFC
// 6191). So a socket is kept after a RST, which leaves no TIME_WAIT, or if it had timestamps. It is
// kept only while its buffers have not grown, since the window of the next SYN would show that.

// mostReusable limits how many sockets wait to be connected again.
const mostReusable = 256

// reusableBytes limits how many bytes a connection may have carried in either direction. The kernel
// first considers larger buffers after ten segments, which is more.
const reusableBytes = 4096

// reusesSockets reports whether a load may connect its sockets again. It may not where the spec
// names the source port, since a socket keeps its port; where a connection lives on after its end
// (timers, a list of idle ones); where several hosts may disagree on timestamps; or where the load
// needs fresh sockets.
func (p *plan) reusesSockets() bool {
	brief := p.Kind == HTTP && p.KeepAlive == 1 || p.Kind == TCP && p.Hold == 0
	ends := p.Close == CloseFIN || p.Close == CloseRST
	return brief && ends && p.AtOnce <= 1 && p.SourcePorts == "" && p.space.Targets.Len() == 1 && p.Payload <= reusableBytes
}

// reusableFor binds a reusable socket to the tuple's source and returns its slot, or
// deadlines.None.
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

// keep makes the socket of an ended connection reusable, still watched, and reports whether it did.
// If the socket is still connected, the peer gets the RST that a close without lingering sends.
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

// finish sends the FIN of a connection whose peer has sent its own. It reports whether the socket
// can be kept: when the FIN ended the connection at once, as it mostly does on one machine, and the
// connection had timestamps.
func (s *stream) finish(c *conn) bool {
	if !s.reuses || !c.left || !s.prompt.Try() || sockets.HalfClose(c.fd) != 0 {
		return false
	}
	state, options := sockets.TCPInfo(c.fd)
	s.prompt.Learn(state == sockets.TCPClosed)
	return state == sockets.TCPClosed && options&sockets.TCPTimestamps != 0
}
