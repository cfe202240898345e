package link

import (
	"errors"
	"fmt"

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
	// ShapedTo and ShapedFrom count the frames that conditions have dropped on this end. Those that
	// a machine's own kernel shapes are not among them.
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
		c, err := end.count()
		if err != nil {
			return nil, fmt.Errorf("count the frames of %s on %s: %w", end.Node, end.Link, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func (end *End) count() (Count, error) {
	c := Count{
		Node: end.Node, Link: end.Link, End: end.Name,
		ShapedTo: end.shapedTo, ShapedFrom: end.shapedFrom, Impaired: end.shaped || end.inside,
	}
	device, err := lookUp(end.Name)
	if err != nil {
		return c, err
	}
	if s := device.Attrs().Statistics; s != nil {
		c.ToNode, c.FromNode, c.Dropped = int64(s.TxPackets), int64(s.RxPackets), int64(s.TxDropped)
	}
	if end.shaped {
		to, from, err := shapedDrops(device)
		c.ShapedTo, c.ShapedFrom = c.ShapedTo+to, c.ShapedFrom+from
		return c, err
	}
	dropped, err := rootDrops(device)
	c.Dropped += dropped
	return c, err
}

// keepDrops adds up what netem has dropped on this end before its counters end with it.
func (end *End) keepDrops() error {
	device, err := lookFor(end.Name)
	if err != nil || device == nil {
		return err
	}
	to, from, err := shapedDrops(device)
	end.shapedTo, end.shapedFrom = end.shapedTo+to, end.shapedFrom+from
	return err
}

// shapedDrops returns how many frames netem has dropped on an interface, leaving and arriving ones.
func shapedDrops(device netlink.Link) (sent, received int64, err error) {
	if sent, err = rootDrops(device); err != nil {
		return sent, 0, err
	}
	ifb, err := lookFor(ifbName(device.Attrs().Name))
	if err == nil && ifb != nil {
		received, err = rootDrops(ifb)
	}
	return sent, received, err
}

// rootDrops returns how many frames the root queueing discipline of an interface has dropped, with
// its children's.
func rootDrops(device netlink.Link) (n int64, err error) {
	queues, err := netlink.QdiscList(device)
	// An interrupted dump is complete but may mix two states: good enough for counters.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, wrap(err, "list the queueing disciplines of %s", device.Attrs().Name)
	}
	for _, queue := range queues {
		a := queue.Attrs()
		if a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil && a.Statistics.Queue != nil {
			n += int64(a.Statistics.Queue.Drops)
		}
	}
	return n, nil
}
