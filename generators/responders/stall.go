package responders

import "time"

// stallPoll limits the time until a stalled worker notices Resume.
const stallPoll = 2 * time.Millisecond

// Stall stops all work of the responder until Resume, with its sockets open, like a process that
// hangs. The kernel still completes handshakes until the accept queues are full and receives data
// until the buffers are. Workers finish what they have begun.
func (r *Responder) Stall() { r.setStalled(true) }

// Resume ends a stall. The workers then handle what came meanwhile.
func (r *Responder) Resume() { r.setStalled(false) }

func (r *Responder) setStalled(stalled bool) {
	for _, s := range r.servers {
		s.counts().stalled.Store(stalled)
	}
}

// stall blocks a worker while its responder is stalled, unless the responder ends. It polls: stalls
// are rare, and a running worker then only checks a flag.
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
