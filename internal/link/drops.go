package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Drops counts the frames that the lab's end of a node's link has dropped since the lab made it.
type Drops struct {
	Node, Link string // names
	// ToNode counts frames that found the queues towards the node full: the ring of a tap that its
	// machine does not empty in time, the backlog of a namespace. FromNode counts frames from the
	// node that this end refused.
	ToNode, FromNode int64
	// Shaped says that conditions drop frames on purpose at present, on this end or in the node.
	Shaped bool
}

// Drops reads the counters of the ends in this namespace; ends on other hosts are left out. It
// needs no privilege.
func (e *Ends) Drops() ([]Drops, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []Drops
	for _, end := range e.all {
		if end.Name == "" {
			continue
		}
		device, err := lookUp(end.Name)
		if err != nil {
			return nil, fmt.Errorf("read what the link %s of %s dropped: %w", end.Link, end.Node, err)
		}
		d := Drops{Node: end.Node, Link: end.Link, Shaped: end.shaped || end.inside}
		if s := device.Attrs().Statistics; s != nil {
			d.ToNode, d.FromNode = int64(s.TxDropped), int64(s.RxDropped)
		}
		queues, err := netlink.QdiscList(device)
		// An interrupted dump is complete but may mix two states: good enough for counters.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("read the queue of %s: %w", end.Name, err)
		}
		for _, queue := range queues {
			a := queue.Attrs()
			// A root counts its children's drops.
			if a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil && a.Statistics.Queue != nil {
				d.ToNode += int64(a.Statistics.Queue.Drops)
			}
		}
		list = append(list, d)
	}
	return list, nil
}
