package generators

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/tuples"
)

// volley is connections that begin at the same moment, from one source to as many ports.
type volley struct {
	chorus  *chorus
	sources *tuples.Allocator
	targets *tuples.Allocator
	due     []begin // fewer than the chorus is large
	calls   []sockaddr
	fds     []int32
	errs    []unix.Errno
}

// begin is a connection that is due.
type begin struct {
	number   int64
	intended time.Duration
}

func newVolley(l *load) (*volley, error) {
	v := &volley{calls: make([]sockaddr, l.AtOnce), fds: make([]int32, l.AtOnce), errs: make([]unix.Errno, l.AtOnce)}
	var err error
	if v.sources, err = tuples.NewAllocator(tuples.Space{Sources: l.space.Sources, SourcePorts: l.space.SourcePorts}, l.Seed); err != nil {
		return nil, err
	}
	if v.targets, err = tuples.NewAllocator(tuples.Space{Targets: l.space.Targets, TargetPorts: l.space.TargetPorts}, l.Seed); err != nil {
		return nil, err
	}
	v.chorus = newChorus(l.AtOnce)
	return v, nil
}

// tuple is that of a connection: those of one volley have one source and different targets.
func (v *volley) tuple(number int64) tuples.Tuple {
	t := v.targets.At(uint64(number) % v.targets.Len())
	t.Source = v.sources.At(uint64(number) / uint64(v.chorus.size) % v.sources.Len()).Source
	return t
}

// beginTogether takes note of a connection that is due; the last of a volley begins all of it.
func (s *stream) beginTogether(number int64, intended time.Duration) {
	v := s.volley
	v.due = append(v.due, begin{number, intended})
	if len(v.due) == int(v.chorus.size) {
		s.volleyOff()
	}
}

// volleyOff begins the connections that are due.
func (s *stream) volleyOff() {
	v := s.volley
	for i, due := range v.due {
		v.fds[i], v.errs[i] = s.prepare(v.tuple(due.number))
		v.calls[i] = s.remote
	}
	v.chorus.together(func(i int) {
		if i < len(v.due) && v.errs[i] == 0 {
			v.errs[i] = connectSocket(v.fds[i], &v.calls[i])
		}
	})
	now := s.load.now()
	for i, due := range v.due {
		s.remote = v.calls[i]
		s.tally.offer(due.intended, now, s.load.openLoop())
		s.begun(v.fds[i], v.errs[i], due.intended, now)
	}
	v.due = v.due[:0]
}

// sendTogether sends a message as often as the load says, at the same moment, and counts what became
// of it: it is sent when each of them is.
func (d *datagrams) sendTogether(fd int32, i int, now time.Duration) {
	data, to := d.out.message(i), &d.out.names[i]
	errs := make([]unix.Errno, d.load.AtOnce)
	d.chorus.together(func(k int) { errs[k] = sendTo(fd, data, to) })
	for k, errno := range errs {
		// An error may be that of an earlier datagram; see send.
		for tries := 0; errno != 0 && tries < retries(errno, d.flows != nil); tries++ {
			pause()
			errno = sendTo(fd, data, to)
		}
		if errno != 0 {
			d.refused(i, now, errno)
			return
		}
		if k > 0 {
			d.tally.sent += int64(d.load.Payload)
		}
	}
	d.taken(i, now)
}
