package generators

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/generators/tuples"
)

// burst holds connections that begin at the same moment, from one source to as many ports.
type burst struct {
	barrier *threads.Barrier
	sources *tuples.Allocator
	targets *tuples.Allocator
	size    int
	due     []begin // fewer than size between calls
}

// begin is a connection that is due.
type begin struct {
	number   int64
	intended time.Duration
	until    time.Duration // the limit of a wait for a free port
	fd       int32
	errno    unix.Errno
	to       sockets.Address // within a burst
}

func newBurst(l *load) (*burst, error) {
	b := &burst{size: l.AtOnce}
	var err error
	if b.sources, b.targets, err = l.ends(); err != nil {
		return nil, err
	}
	b.barrier = threads.NewBarrier(l.AtOnce)
	return b, nil
}

// tuple returns the tuple of a connection. Those of one burst share a source and differ in targets.
func (b *burst) tuple(number int64) tuples.Tuple {
	t := b.targets.At(uint64(number) % b.targets.Len())
	t.Source = b.sources.At(uint64(number) / uint64(b.size) % b.sources.Len()).Source
	return t
}

// beginTogether notes a connection that is due. The last one of a burst begins the whole burst.
func (s *stream) beginTogether(c begin) {
	b := s.burst
	b.due = append(b.due, c)
	if len(b.due) == b.size {
		s.beginBurst()
	}
}

// beginBurst begins the connections that are due.
func (s *stream) beginBurst() {
	b := s.burst
	for i := range b.due {
		c := &b.due[i]
		s.prepare(c, b.tuple(c.number))
		c.to = s.remote
	}
	b.barrier.Together(func(i int) {
		if i < len(b.due) && b.due[i].errno == 0 {
			b.due[i].errno = sockets.Connect(b.due[i].fd, &b.due[i].to)
		}
	})
	now := s.load.now()
	for _, c := range b.due {
		s.remote = c.to
		s.tally.offer(now, s.load.openLoop(), c.intended)
		if !s.begun(&c, now) {
			s.await(c, now)
		}
	}
	b.due = b.due[:0]
}

// sendTogether sends message i AtOnce times at the same moment and counts the outcome. The message
// counts as sent when the kernel took every copy.
func (d *datagrams) sendTogether(fd int32, i int, now time.Duration) {
	data, to := d.out.Message(i), d.out.Name(i)
	errs := make([]unix.Errno, d.load.AtOnce)
	d.barrier.Together(func(k int) { errs[k] = sockets.SendTo(fd, data, to) })
	for k, errno := range errs {
		// The error may belong to an earlier datagram; see send.
		for tries := 0; errno != 0 && tries < sockets.Retries(errno, d.awaits); tries++ {
			sockets.Pause()
			errno = sockets.SendTo(fd, data, to)
		}
		if errno != 0 {
			d.refused(i, now, errno)
			return
		}
		if k > 0 {
			d.tally.Sent += int64(d.load.Payload)
		}
	}
	d.taken(i, now)
}
