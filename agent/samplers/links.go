package samplers

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkLoss counts a link's packets and losses since the mark, in packets. A link that appeared
// after the mark counts in full.
type LinkLoss struct {
	Name         string `json:"name"`
	RxPackets    int64  `json:"rx_packets"`
	TxPackets    int64  `json:"tx_packets"`
	RxDropped    int64  `json:"rx_dropped"` // no buffer, or no receiving protocol
	TxDropped    int64  `json:"tx_dropped"`
	RxErrors     int64  `json:"rx_errors"`
	TxErrors     int64  `json:"tx_errors"`
	RxMissed     int64  `json:"rx_missed"` // lost by the device itself
	QdiscDropped int64  `json:"qdisc_dropped"`
	// QueueLength is a gauge: packets that wait in the queueing discipline.
	QueueLength int64 `json:"queue_length"`

	qdiscDropped uint32 // as the kernel counts: 32 bits
}

// linkReader asks rtnetlink for the counters of links and their root queueing disciplines. It needs
// no privilege.
type linkReader struct{ handle *netlink.Handle }

func newLinkReader() (*linkReader, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &linkReader{handle: handle}, nil
}

func (r *linkReader) close() { r.handle.Close() }

func (r *linkReader) read() ([]LinkLoss, error) {
	links, err := r.handle.LinkList()
	// An interrupted dump is complete but may mix two states: good enough for counters.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the links: %w", err)
	}
	losses := make([]LinkLoss, 0, len(links))
	places := make(map[int]int, len(links))
	for _, link := range links {
		attributes := link.Attrs()
		loss := LinkLoss{Name: attributes.Name}
		if s := attributes.Statistics; s != nil {
			loss.RxPackets, loss.TxPackets = int64(s.RxPackets), int64(s.TxPackets)
			loss.RxDropped, loss.TxDropped = int64(s.RxDropped), int64(s.TxDropped)
			loss.RxErrors, loss.TxErrors = int64(s.RxErrors), int64(s.TxErrors)
			loss.RxMissed = int64(s.RxMissedErrors)
		}
		places[attributes.Index] = len(losses)
		losses = append(losses, loss)
	}
	queues, err := r.handle.QdiscList(nil)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return losses, fmt.Errorf("list the queueing disciplines: %w", err)
	}
	for _, queue := range queues {
		attributes := queue.Attrs()
		place, known := places[attributes.LinkIndex]
		// A root counts its children's drops.
		if !known || attributes.Parent != netlink.HANDLE_ROOT || attributes.Statistics == nil || attributes.Statistics.Queue == nil {
			continue
		}
		losses[place].qdiscDropped = attributes.Statistics.Queue.Drops
		losses[place].QdiscDropped = int64(attributes.Statistics.Queue.Drops)
		losses[place].QueueLength = int64(attributes.Statistics.Queue.Qlen)
	}
	return losses, nil
}

// linksSince returns the difference from an earlier reading, link by link.
func linksSince(now, base []LinkLoss) []LinkLoss {
	for i := range now {
		n := &now[i]
		place := slices.IndexFunc(base, func(b LinkLoss) bool { return b.Name == n.Name })
		if place < 0 {
			continue
		}
		b := base[place]
		n.RxPackets -= b.RxPackets
		n.TxPackets -= b.TxPackets
		n.RxDropped -= b.RxDropped
		n.TxDropped -= b.TxDropped
		n.RxErrors -= b.RxErrors
		n.TxErrors -= b.TxErrors
		n.RxMissed -= b.RxMissed
		n.QdiscDropped = int64(n.qdiscDropped - b.qdiscDropped) // modulo 2^32
	}
	return now
}
