package generators

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/generators/tuples"
)

// datagrams is a worker that sends datagrams from ordinary sockets, without privilege: kind udp,
// and the udp and icmp probes. A new flow needs no new socket: one socket sends in batches to each
// target and port in turn, and each of them is a flow of its own.
type datagrams struct {
	base

	sources *tuples.Allocator // tuple i is the source of socket i
	targets *tuples.Allocator // the targets of each socket
	sockets []int32           // -1 where a position is vacant
	vacant  []int32           // positions
	numbers map[uint64]int32  // position in sockets of each source that is open
	users   []int32           // by position: flows of the socket
	flows   *flows            // nil when no answers are awaited and nothing has a lifetime
	awaits  bool              // answers are awaited
	// weighted says that the sources have weights: neighbours in number have different ones.
	weighted bool
	// barrier is nil unless each datagram is sent several times at once.
	barrier *threads.Barrier
	echo    *echo // for icmp
	header  int   // bytes of a message before its label

	concurrency int // this worker's share; 0: no limit

	portless []begin       // the queue for a free port
	retryAt  time.Duration // when to look for one again

	out      *sockets.Batch
	slots    [sockets.BatchSize]int32 // the flows of the messages
	in       *sockets.Batch
	intended [sockets.BatchSize]time.Duration
}

func newDatagrams(l *load, number int) (*datagrams, error) {
	base, err := newBase(l)
	if err != nil {
		return nil, err
	}
	size := l.Payload
	d := &datagrams{
		base: base, numbers: make(map[uint64]int32), concurrency: l.workerConcurrency(number),
		weighted: l.tuples.Weighted(),
	}
	if d.awaits = l.awaited(); d.awaits {
		size = max(size, labelSize)
	}
	if d.awaits || !l.Lifetime.None() {
		d.flows = newFlows()
	}
	if l.Kind == Probe && l.Protocol == ProtocolICMP {
		d.header, d.echo = echoHeader, newEcho(l.space.Targets.Is4(), number)
		size += echoHeader
	}
	d.out = sockets.NewBatch(sockets.BatchSize, size, 0)
	for i := range sockets.BatchSize {
		d.out.To(i)
	}
	if d.awaits {
		d.in = sockets.NewBatch(sockets.BatchSize, size+maxIPHeader, sockets.ErrorControl)
	}
	if l.AtOnce > 1 {
		d.barrier = threads.NewBarrier(l.AtOnce)
	}
	if d.sources, d.targets, err = l.ends(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *datagrams) close() error {
	d.barrier.Close()
	for _, fd := range d.sockets {
		if fd >= 0 {
			sockets.Close(fd)
		}
	}
	return d.poll.Close()
}

func (d *datagrams) work() error {
	for {
		now := d.load.now()
		if d.load.stopped.Load() {
			d.cancel(now)
			return nil
		}
		d.expire(now, d.attention.Turn(now))
		d.retry(now)
		wait := d.begin(now)
		if wait < 0 && d.open() == 0 {
			return nil
		}
		wait = d.sleep(wait)
		events, err := d.poll.Wait(wait)
		if err != nil {
			return err
		}
		all := d.poll.All()
		for _, e := range events {
			all = d.read(e.Fd) && all
		}
		d.attention.Looked(wait, all)
	}
}

// sleep returns how long to wait for answers when the next begin is wait away (negative: never).
func (d *datagrams) sleep(wait time.Duration) time.Duration {
	now := d.load.now()
	if len(d.portless) > 0 {
		wait = deadlines.Sooner(wait, d.retryAt-now)
	}
	if d.flows == nil {
		return wait
	}
	if first, ok := d.flows.resting.First(); ok {
		wait = deadlines.Sooner(wait, first-now)
	}
	return deadlines.Soonest(wait, now, &d.flows.waiting)
}

// open returns how many flows have begun and not ended.
func (d *datagrams) open() int {
	if d.flows == nil {
		return 0
	}
	return d.flows.open + len(d.portless)
}

// begin sends the datagrams of the flows that are due and returns the time until the next one.
func (d *datagrams) begin(now time.Duration) time.Duration {
	room := sockets.BatchSize
	if d.concurrency > 0 && d.flows != nil {
		room = min(room, d.concurrency-d.open())
	}
	if room <= 0 || len(d.portless) > 0 {
		if d.load.pacer.Over() {
			return -1
		}
		return time.Second // an answer or a timeout comes first, or a port becomes free
	}
	first, n, wait := d.load.pacer.Take(now, d.intended[:room])
	if n == 0 {
		return wait
	}
	now = d.load.now()
	for i := 0; i < n; {
		i = d.run(first, i, n, now)
	}
	return 0
}

// run sends the datagrams from i on that leave by the same socket and returns the index of the
// first that does not.
func (d *datagrams) run(first int64, i, n int, now time.Duration) int {
	source, _ := d.place(first + int64(i))
	socket, errno := d.socket(source)
	end := i
	for ; end < n; end++ {
		number, intended := first+int64(end), d.intended[end]
		of, target := d.place(number)
		if of != source {
			break
		}
		d.tally.offer(now, d.load.openLoop(), intended)
		if d.flows == nil && errno == 0 {
			d.fill(end, 0, target)
			continue
		}
		c := begin{number: number, intended: intended, until: now + d.load.Timeout, errno: errno}
		switch {
		case d.waits(&c, now):
			d.await(c, now)
		case errno != 0:
			d.failed(intended, now, causeOf(errno))
		default:
			d.fill(end, d.add(&c, socket, now), target)
		}
	}
	if errno == 0 {
		d.send(socket, i, end, now)
	}
	return end
}

// place returns the numbers of the source and of the target of a flow.
func (d *datagrams) place(number int64) (source, target uint64) {
	if d.weighted {
		s, sp, t, tp := d.load.tuples.Split(uint64(number))
		space := &d.load.space
		return s*uint64(len(space.SourcePorts)) + sp, t*uint64(len(space.TargetPorts)) + tp
	}
	n := uint64(number)
	source, target = n/d.targets.Len(), n%d.targets.Len()
	if d.load.Kind == Probe {
		source = n // each sample meets what a new client meets
	}
	if d.flows != nil && len(d.load.space.SourcePorts) > 0 {
		source %= d.sources.Len() // the socket that a flow on the same tuple may have
	}
	return source, target
}

// add returns the slot of a flow that begins.
func (d *datagrams) add(c *begin, socket int32, now time.Duration) int32 {
	f := flow{
		intended: c.intended, number: c.number, socket: socket, due: d.extra(),
		left: max(int32(d.load.Exchanges), 1),
	}
	if !d.load.Lifetime.None() {
		f.next = now
		f.ends = now + d.load.life(c.number)
	}
	d.users[socket]++
	return d.flows.add(f)
}

// waits reports whether a flow that found no free port waits for one, as a connection does.
func (d *datagrams) waits(c *begin, now time.Duration) bool {
	return c.errno != 0 && causeOf(c.errno) == NoPort && now < c.until && d.flows != nil &&
		!d.load.openLoop()
}

// await puts a flow at the end of the queue for a free port.
func (d *datagrams) await(c begin, now time.Duration) {
	if len(d.portless) == 0 {
		d.retryAt = now + portRetry
	}
	d.portless = append(d.portless, c)
	d.tally.portWaits++
}

// retry begins the flows in the queue for a free port, until one finds none. The last attempt of a
// flow is the one after its time limit.
func (d *datagrams) retry(now time.Duration) {
	for range len(d.portless) {
		if now < d.retryAt {
			return
		}
		c := d.portless[0]
		source, target := d.place(c.number)
		var socket int32
		if socket, c.errno = d.socket(source); d.waits(&c, now) {
			d.retryAt = now + portRetry
			return
		}
		d.portless = d.portless[1:]
		if c.errno != 0 {
			d.failed(c.intended, now, causeOf(c.errno))
			continue
		}
		d.fill(0, d.add(&c, socket, now), target)
		d.send(socket, 0, 1, now)
	}
}

// fill writes the datagram of a flow into message i of the batch.
func (d *datagrams) fill(i int, slot int32, target uint64) {
	if d.weighted {
		d.out.Name(i).Set(d.load.space.Target(target))
	} else {
		d.out.Name(i).Set(d.targets.At(target).Target)
	}
	d.slots[i] = slot
	if d.awaits {
		d.flows.label(slot, d.labelled(i))
	}
	if d.echo != nil {
		d.echo.seal(d.out.Message(i), slot)
	}
}

// send sends the messages from i to end by a socket and counts the outcomes.
func (d *datagrams) send(socket int32, i, end int, now time.Duration) {
	fd := d.sockets[socket]
	for ; d.barrier != nil && i < end; i++ {
		d.sendTogether(fd, i, now)
	}
	for tries := 0; i < end; {
		n, errno := d.out.Send(fd, i, end)
		for range n {
			d.taken(i, now)
			i++
		}
		if errno == 0 {
			tries = 0
			continue
		}
		// Where answers are awaited, the error may belong to an earlier datagram, reported by ICMP.
		// Reporting clears it, and its details wait in the socket's error queue. A full socket
		// buffer drains by itself. Only a persistent error belongs to this datagram.
		if tries++; tries > sockets.Retries(errno, d.awaits) {
			tries = 0
			d.refused(i, now, errno)
			i++
		} else if errno == unix.EAGAIN || errno == unix.ENOBUFS {
			sockets.Pause()
		}
	}
}

// taken counts message i as sent.
func (d *datagrams) taken(i int, now time.Duration) {
	d.tally.Sent += int64(d.load.Payload)
	if d.flows == nil {
		d.tally.accept(1, d.load.now())
		return
	}
	slot := d.slots[i]
	if d.awaits {
		d.flows.waiting.Put(slot, now+d.load.Timeout)
	} else if !d.rest(slot, now) {
		d.complete(slot, now)
	}
}

// labelled returns the part of message i that has the label.
func (d *datagrams) labelled(i int) []byte { return d.out.Message(i)[d.header:] }

// refused counts message i as one that the kernel did not take.
func (d *datagrams) refused(i int, now time.Duration, errno unix.Errno) {
	if d.flows == nil {
		d.tally.fail(now, causeOf(errno))
		return
	}
	slot := d.slots[i]
	f := d.flows.at(slot)
	c := begin{number: f.number, intended: f.intended, until: f.intended + d.load.Timeout,
		errno: errno}
	if f.sequence == 0 && d.waits(&c, now) { // the kernel found no port when it was to choose one
		d.end(slot)
		d.await(c, now)
		return
	}
	d.fail(slot, now, causeOf(errno))
}

// socket returns the position of a source's socket. It opens the socket on first use.
func (d *datagrams) socket(source uint64) (int32, unix.Errno) {
	if position, ok := d.numbers[source]; ok {
		return position, 0
	}
	fd, errno := d.openSocket(source)
	if errno != 0 {
		return 0, errno
	}
	// The other sockets have sent their datagrams. A port that the kernel chose would be free
	// again, and tuples would repeat. Awaited answers still need the socket.
	if len(d.load.space.SourcePorts) > 0 && d.flows == nil {
		for source, position := range d.numbers {
			d.closeSocket(source, position)
		}
	}
	var position int32
	if last := len(d.vacant) - 1; last >= 0 {
		position, d.vacant = d.vacant[last], d.vacant[:last]
		d.sockets[position] = fd
	} else {
		position = int32(len(d.sockets))
		d.sockets, d.users = append(d.sockets, fd), append(d.users, 0)
	}
	d.numbers[source] = position
	if d.awaits {
		if errno := d.poll.Add(fd, unix.EPOLLIN|unix.EPOLLERR, position, 0); errno != 0 {
			d.closeSocket(source, position)
			return 0, errno
		}
	}
	return position, 0
}

func (d *datagrams) closeSocket(source uint64, position int32) {
	sockets.Close(d.sockets[position])
	d.sockets[position] = -1
	d.vacant = append(d.vacant, position)
	delete(d.numbers, source)
}

func (d *datagrams) openSocket(source uint64) (int32, unix.Errno) {
	tuple := d.sources.At(source)
	if d.weighted {
		tuple.Source = d.load.space.Source(source)
	}
	target := d.load.space.Targets.At(0)
	open := func() (int32, unix.Errno) {
		return sockets.Open(sockets.Family(target), unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	}
	if d.echo != nil {
		open = d.echo.open
	}
	fd, errno := open()
	if errno != 0 {
		return -1, errno
	}
	if tuple.Source.Addr().IsValid() || tuple.Source.Port() != 0 {
		// A datagram socket receives from every peer, so a socket that awaits answers must be alone
		// on its port. A port in use is then a failure of this host, not an answer lost on the way.
		free, shared := d.load.FreeBind, !d.awaits
		errno = sockets.BindSource(fd, tuple.Source, target, free, shared, d.out.Name(0))
	}
	if errno == 0 && d.awaits {
		errno = sockets.AskErrors(fd, target.Is6())
	}
	if errno != 0 {
		sockets.Close(fd)
		return -1, errno
	}
	return fd, 0
}

// cancel fails what is unfinished, because the context has ended.
func (d *datagrams) cancel(now time.Duration) {
	if d.flows == nil {
		return
	}
	for _, c := range d.portless {
		d.failed(c.intended, now, Cancelled)
	}
	for i, f := range d.flows.all() {
		switch {
		case !f.used:
		case f.ends > 0 && f.sequence > 0: // a life that was cut short, and not by the target
			d.complete(i, now)
		default:
			d.fail(i, now, Cancelled)
		}
	}
}

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

// seal writes the header of an echo request (RFC 792, RFC 4443). Ping sockets set identifier and
// checksum themselves, and the kernel sets the checksum of ICMPv6.
func (e *echo) seal(message []byte, sequence int32) {
	clear(message[:echoHeader])
	message[0] = 128
	binary.BigEndian.PutUint16(message[4:], e.next)
	binary.BigEndian.PutUint16(message[6:], uint16(sequence))
	if e.four {
		message[0] = 8
		binary.BigEndian.PutUint16(message[2:], packets.Checksum(message))
	}
}

// reply returns the payload of an echo reply, or false for anything else.
func (e *echo) reply(message []byte) ([]byte, bool) {
	if e.raw && e.four { // a raw IPv4 socket returns the IP header too
		if len(message) == 0 {
			return nil, false
		}
		message = message[min(int(message[0]&0x0f)*4, len(message)):]
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
