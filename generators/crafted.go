package generators

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// crafted is a worker that makes packets in user space: syn, handshake, icmp and crafted udp. It
// sends batches patched from a template. Where answers matter, it reads them from the same
// interface. The kernel takes no part, since the addresses are not its own.
type crafted struct {
	base
	number int

	out      *sockets.FrameBatch
	template packets.Template
	intended [sockets.BatchSize]time.Duration
	accepted int64 // of the current batch, where no answers are awaited

	replies *replyReader // nil when no answers are awaited
}

// craftedConcurrency is the number of handshakes or echo requests in flight in a closed loop whose
// spec names none.
const craftedConcurrency = 1024

func newCrafted(l *load, number int) (_ worker, err error) {
	c := &crafted{number: number}
	if c.base, err = newBase(l); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	way, err := l.findOutlet()
	if err != nil {
		return nil, err
	}
	if c.out, err = sockets.NewFrameBatch(way.index, c.number, c.lost); err != nil {
		return nil, err
	}
	if c.template, err = l.newTemplate(way.link); err == nil && l.awaiting != nil {
		c.replies, err = newReplyReader(l, c, way, l.space.Targets.At(0).Is6())
	}
	return c, err
}

// prepareCrafted completes a plan for crafted packets from the load's namespace, and refuses
// sources whose handshakes could not succeed.
func (l *load) prepareCrafted() error {
	if err := sockets.MayCraft(l.InLab); err != nil {
		return err
	}
	if !l.InLab && !l.AllowPublic {
		if err := sockets.NoUplink(); err != nil {
			return err
		}
	}
	if l.Sources == "" {
		way, err := l.findOutlet()
		if err != nil {
			return err
		}
		if l.space.Sources, err = tuples.ParseAddresses(way.source.String()); err != nil {
			return fmt.Errorf("the own address: %w", err)
		}
		if err := l.allocate(); err != nil {
			return err
		}
	}
	if l.Kind == Handshake {
		own, found, err := sockets.OwnAddress(l.space.Sources)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("source %s belongs to this host, whose kernel would reset "+
				"the handshake", own)
		}
	}
	if l.awaited() {
		l.awaiting = newAwaiting(l.most(), l.Workers)
	}
	return nil
}

// newTemplate returns the frame from which all frames of a load are made.
func (p *plan) newTemplate(link packets.Link) (template packets.Template, err error) {
	six := p.space.Targets.At(0).Is6()
	switch p.Kind {
	case ICMP:
		template = packets.NewEcho(link, six, make([]byte, p.Payload))
	case UDP:
		template = packets.NewUDP(link, six, make([]byte, p.Payload))
	default:
		template = packets.NewTCP(link, six, packets.SYN, nil)
	}
	if over := len(template.Frame) - sockets.MostFrame; over > 0 {
		return template, fmt.Errorf("a payload of %d bytes is %d more than fit into a frame of %d",
			p.Payload, over, sockets.MostFrame)
	}
	return template, nil
}

func (c *crafted) close() error {
	if c.replies != nil {
		sockets.Close(c.replies.fd)
	}
	var err error
	if c.out != nil {
		err = c.out.Close()
	}
	return errors.Join(err, c.poll.Close())
}

// listen begins to receive answers: those to other loads from before would only fill the queue.
func (c *crafted) listen() error {
	if c.replies == nil {
		return nil
	}
	flags := packets.SYN | packets.RST | packets.FIN
	return sockets.AdmitPackets(c.replies.fd, c.replies.six, flags)
}

func (c *crafted) work() error {
	if c.replies != nil {
		defer func() { c.tally.lost = sockets.DroppedFrames(c.replies.fd) }()
	}
	for {
		now := c.load.now()
		if c.load.stopped.Load() {
			c.replies.releaseLives(now)
			return nil // settle counts what is unfinished when all workers have ended
		}
		limit := c.attention.Turn(now)
		if c.replies != nil {
			c.replies.endLives(now, limit)
		}
		wait := c.begin(now)
		if wait < 0 && (c.replies == nil || c.load.awaiting.open.Load() == 0) {
			return nil
		}
		if c.replies != nil {
			c.load.awaiting.away[c.number].Store(int64(now - limit))
			wait = c.replies.sleep(wait)
		}
		events, err := c.poll.Wait(wait)
		if err != nil {
			return err
		}
		all := c.poll.All()
		for range events {
			all = c.replies.read() && all
		}
		c.attention.Looked(wait, all)
	}
}

// begin sends the packets that are due and returns the time until the next one, negative for never.
func (c *crafted) begin(now time.Duration) time.Duration {
	room := int64(sockets.BatchSize)
	most := int64(c.load.Concurrency)
	if most == 0 && !c.load.openLoop() {
		most = craftedConcurrency
	}
	if a := c.load.awaiting; a != nil && most > 0 {
		if room = min(room, most-a.open.Load()+a.alive.Load()); room <= 0 {
			if c.load.pacer.Over() {
				return -1
			}
			return time.Millisecond // an answer to another worker may make room
		}
	}
	if c.load.awaiting != nil {
		c.load.awaiting.reserve(room)
	}
	first, n, wait := c.load.pacer.Take(now, c.intended[:room])
	if c.load.awaiting != nil {
		c.load.awaiting.release(room - int64(n))
	}
	if n == 0 {
		return wait
	}
	now = c.load.now()
	c.tally.offer(now, c.load.openLoop(), c.intended[:n]...)
	for i := range n {
		c.put(first+int64(i), c.intended[i])
	}
	c.out.Flush()
	c.tally.accept(c.accepted, now)
	c.accepted = 0
	return 0
}

// put makes the packet of this number in the batch.
func (c *crafted) put(number int64, intended time.Duration) {
	tuple := c.load.tuples.At(uint64(number))
	if c.load.awaiting != nil {
		c.load.awaiting.sent(number, intended)
	} else {
		c.accepted++
	}
	c.tally.Sent += int64(len(c.template.Frame))
	frame, from, to := c.out.Put(&c.template, number), tuple.Source, tuple.Target
	switch c.load.Kind {
	case ICMP:
		c.template.SetEcho(frame, from.Addr(), to.Addr(), from.Port(), uint16(number))
	case UDP:
		c.template.SetUDP(frame, from, to)
	default:
		c.template.SetTCP(frame, from, to, c.load.initialSequence(number), 0)
	}
}

// initialSequence returns the first sequence number of a packet's connection, scattered by the seed
// (the finaliser of MurmurHash3).
func (l *load) initialSequence(number int64) uint32 {
	x := uint64(number) ^ l.Seed<<32
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

// lost counts a frame that the device did not take: the packet of this number, or a reply to an
// answer, which counts as lost on the way.
func (c *crafted) lost(number int64, errno unix.Errno) {
	now := c.load.now()
	cause := causeOf(errno)
	if errno == unix.EAGAIN {
		cause = NoBuffer
	}
	switch {
	case number == replyFrame:
		c.tally.unsent++
	case c.load.awaiting == nil:
		c.accepted--
		c.tally.fail(now, cause)
	default:
		if _, ok := c.load.awaiting.settle(number, now); ok {
			c.tally.fail(now, cause)
		}
	}
}

// outlet is the interface by which crafted packets leave.
type outlet struct {
	index  int
	link   packets.Link
	source netip.Addr // the address that the kernel would use
}

// findOutlet follows the routes of the calling thread's network namespace to the target, and asks
// the next hop for its hardware address as the kernel would.
func (p *plan) findOutlet() (o outlet, err error) {
	target := p.space.Targets.At(0)
	routes, err := netlink.RouteGet(target.AsSlice())
	if err != nil {
		return o, fmt.Errorf("finding a route to %s: %w", target, err)
	}
	route := routes[0]
	o.index = route.LinkIndex
	if p.Interface != "" {
		if o.index, err = sockets.InterfaceIndex(p.Interface); err != nil {
			return o, err
		}
	}
	device, err := netlink.LinkByIndex(o.index)
	if err != nil {
		return o, fmt.Errorf("finding interface %d: %w", o.index, err)
	}
	if source, ok := netip.AddrFromSlice(route.Src); ok {
		o.source = source.Unmap()
	}
	attributes := device.Attrs()
	switch attributes.EncapType {
	case "loopback":
		return o, nil // loopback has no hardware addresses and accepts any
	case "ether":
		copy(o.link.Source[:], attributes.HardwareAddr)
	default:
		return o, fmt.Errorf("interface %s is of type %s: crafted packets need Ethernet",
			attributes.Name, attributes.EncapType)
	}
	if p.Gateway != "" {
		o.link.Target, err = packets.ParseHardwareAddress(p.Gateway)
		return o, err
	}
	hop := target
	if gateway, ok := netip.AddrFromSlice(route.Gw); ok {
		hop = gateway.Unmap()
	}
	address, err := sockets.Neighbour(context.Background(), o.index, hop)
	if err == nil {
		copy(o.link.Target[:], address)
	}
	return o, err
}
