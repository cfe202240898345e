package generators

import (
	"time"

	"github.com/ctload/ctload/generators/deadlines"
)

// conn is one connection of a [stream].
type conn struct {
	// intended is the planned start of the connection or of its current request, since the start
	// of the load.
	intended       time.Duration
	begun          time.Duration // when it began
	deadlines.Link               // in the queue of connections under the time limit
	until          time.Duration // when a held connection ends; 0: with the load
	expected       int64         // bytes still to come (tcp)
	received       int64         // bytes received
	fd             int32
	generation     uint32 // tells the connection from earlier ones in the slot
	registered     uint32 // the generation that epoll has for the descriptor
	unsent         int32  // bytes of the request still to send
	// presend counts bytes of the request sent before the connection was known to be established.
	presend  int32
	requests int32 // requests left to send, without the current one
	state    connState
	watched  bool // by epoll
	counted  bool // its end was counted; only the close is left
	answered bool // the first byte came
	left     bool // the peer has closed its side
}

type connState uint8

const (
	connFree connState = iota
	connecting
	sending
	receiving
	holding
	closing     // the peer has to close
	idling      // kept alive, without a request
	lingering   // half closed, until the load ends
	unconnected // a socket without a connection, for the next one
)

// handle names a connection that may have ended since.
type handle struct {
	slot       int32
	generation uint32
}

// chunkSize is the number of slots in one allocation.
const chunkSize = 1024

// slot returns connection i.
func (s *stream) slot(i int32) *conn { return &s.chunks[i/chunkSize][i%chunkSize] }

// response returns the response that connection i reads (http).
func (s *stream) response(i int32) *response { return &s.responses[i/chunkSize][i%chunkSize] }

// take gives the connection of a socket a free slot.
func (s *stream) take(fd int32) int32 {
	if len(s.free) == 0 {
		first := int32(len(s.chunks) * chunkSize)
		s.chunks = append(s.chunks, make([]conn, chunkSize))
		if s.load.Kind == HTTP {
			s.responses = append(s.responses, make([]response, chunkSize))
		}
		for i := first + chunkSize - 1; i >= first; i-- {
			s.free = append(s.free, i)
		}
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	c := s.slot(i)
	*c = conn{fd: fd, generation: c.generation, requests: int32(s.load.KeepAlive)}
	return i
}

// drop frees a slot after its socket was closed.
func (s *stream) drop(i int32) {
	c := s.slot(i)
	c.state = connFree
	c.generation++ // marks pending events and timers of this connection as stale
	s.free = append(s.free, i)
}

// find returns the connection that a handle names, or nil when it has ended.
func (s *stream) find(h handle) *conn {
	if c := s.slot(h.slot); c.generation == h.generation && c.state != connFree {
		return c
	}
	return nil
}

// timers is a heap, by time, of the next actions of held connections. The timer of an ended
// connection stays in it until its time and is then ignored.
type timers []timer

type timer struct {
	at time.Duration
	handle
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// push and pop work as those of container/heap, without boxing into an interface.
func (t *timers) push(next timer) {
	*t = append(*t, next)
	for i := len(*t) - 1; i > 0; {
		parent := (i - 1) / 2
		if !t.Less(i, parent) {
			return
		}
		t.Swap(i, parent)
		i = parent
	}
}

func (t *timers) pop() timer {
	first := (*t)[0]
	last := len(*t) - 1
	t.Swap(0, last)
	*t = (*t)[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return first
		}
		if child+1 < last && t.Less(child+1, child) {
			child++
		}
		if !t.Less(child, i) {
			return first
		}
		t.Swap(i, child)
		i = child
	}
}
