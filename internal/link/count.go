package link

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
)

// Count holds the counters of the lab's end of a node's link, in frames since the lab made it.
type Count struct {
	Node, Link string // names
	End        string // name of the interface, which no other end in the lab ever had
	// ToNode counts frames that this end passed to the node, FromNode those that it had from it.
	ToNode, FromNode int64
	// Dropped counts frames that found the queues towards the node full: the ring of a tap that its
	// machine does not empty in time, the backlog of a namespace.
	Dropped int64
	// ShapedTo and ShapedFrom count the frames that conditions have dropped on this end.
	ShapedTo, ShapedFrom int64
	// Impaired says that conditions hold at present, on this end or in the node.
	Impaired bool
}

// Counts reads the counters of the ends in this namespace; ends on other hosts are left out. It
// needs no privilege.
func (e *Ends) Counts() ([]Count, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []Count
	for _, end := range e.all {
		if end.Name == "" {
			continue
		}
		c, err := e.count(end)
		if err != nil {
			return nil, fmt.Errorf("count the frames of %s on %s: %w", end.Node, end.Link, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func (e *Ends) count(end *End) (Count, error) {
	c := Count{
		Node: end.Node, Link: end.Link, End: end.Name, Impaired: end.shaped || end.inside,
	}
	device, err := lookUp(end.Name)
	if err != nil {
		return c, err
	}
	if s := device.Attrs().Statistics; s != nil {
		c.ToNode, c.FromNode, c.Dropped = int64(s.TxPackets), int64(s.RxPackets), int64(s.TxDropped)
	}
	queued, err := QueueDrops(device)
	c.Dropped += queued
	if err == nil {
		c.ShapedTo, c.ShapedFrom, err = e.shaper.Dropped(end.Name)
	}
	return c, err
}

// QueueDrops returns how many frames the root queueing discipline of an interface has dropped, with
// its children's; 0 for one of [Shape].
func QueueDrops(device netlink.Link) (int64, error) {
	return rootDrops(device, func(handle uint32) bool { return handle != netemHandle })
}

// rootDrops returns the drops of an interface's root discipline, where its handle is wanted.
func rootDrops(device netlink.Link, wanted func(handle uint32) bool) (n int64, err error) {
	queues, err := netlink.QdiscList(device)
	// An interrupted dump is complete but may mix two states: good enough for counters.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, wrap(err, "list the queueing disciplines of %s", device.Attrs().Name)
	}
	for _, queue := range queues {
		a := queue.Attrs()
		s := a.Statistics
		if a.Parent == netlink.HANDLE_ROOT && wanted(a.Handle) && s != nil && s.Queue != nil {
			n += int64(s.Queue.Drops)
		}
	}
	return n, nil
}

// Shaper shapes interfaces and counts the frames that it dropped there. The kernel's counters end
// with each change. The zero value is ready for use.
type Shaper struct {
	mu     sync.Mutex
	former map[string]drops // by interface, of earlier shaping
}

// drops are frames in each direction.
type drops struct{ sent, received int64 }

// Shape calls [Shape]. What the conditions of before drop until then is counted.
func (s *Shaper) Shape(name string, sent, received Conditions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A frame that is dropped between the last reading and the change would be counted nowhere.
	if err := errors.Join(harmless(name), harmless(ifbName(name))); err != nil {
		return err
	}
	now, err := s.dropped(name)
	if err != nil {
		return err
	}
	if s.former == nil {
		s.former = map[string]drops{}
	}
	s.former[name] = now
	return Shape(name, sent, received)
}

// Dropped returns how many frames the shaper has dropped on an interface, leaving and arriving
// ones.
func (s *Shaper) Dropped(name string) (sent, received int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.dropped(name)
	return d.sent, d.received, err
}

func (s *Shaper) dropped(name string) (drops, error) {
	d := s.former[name]
	ours := func(handle uint32) bool { return handle == netemHandle }
	for device, n := range map[string]*int64{name: &d.sent, ifbName(name): &d.received} {
		port, err := lookFor(device)
		if err != nil {
			return d, err
		}
		if port == nil {
			continue
		}
		now, err := rootDrops(port, ours)
		if err != nil {
			return d, err
		}
		*n += now
	}
	return d, nil
}
