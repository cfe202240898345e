package responders

import "time"

// stallPoll is how soon a stalled worker notices that it may go on.
const stallPoll = 2 * time.Millisecond

// Stall keeps the responder from doing anything, with all its sockets open, until Resume: a process that
// hangs. The kernel goes on to complete handshakes until the accept queues are full and to take in data until
// the buffers are. Work that is under way at the call is finished.
func (r *Responder) Stall() { r.setStalled(true) }

// Resume ends a stall; what has come meanwhile is dealt with now.
func (r *Responder) Resume() { r.setStalled(false) }

func (r *Responder) setStalled(stalled bool) {
	for _, s := range r.servers {
		s.counts().stalled.Store(stalled)
	}
}

// stall holds a worker back for as long as its responder is stalled, and no longer when it is to end. It
// polls: a stall is rare, and a worker that need not look at more than a flag is what costs nothing.
func (l *liveCounters) stall() {
	if !l.stalled.Load() {
		return
	}
	poll := time.NewTicker(stallPoll)
	defer poll.Stop()
	for l.stalled.Load() && !l.stopping.Load() {
		<-poll.C
	}
}
