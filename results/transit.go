package results

import (
	"cmp"
	"fmt"
	"slices"
)

// Transit follows the frames between the load nodes and the DUT through the lab, from the baseline
// to the end of the watch: cards and lab count them, each for itself.
type Transit struct {
	ToDUT   Crossing `json:"to_dut"`   // from the load nodes to the DUT
	FromDUT Crossing `json:"from_dut"` // from the DUT to the load nodes
	// Moving counts the frames that passed while the counters were read, since the DUT or a load
	// node still sent: Missing is uncertain by as many. 0: all counts are exact.
	Moving int64 `json:"moving,omitempty"`
	// Expected says that frames were lost on purpose: a link had conditions, or an action stopped
	// or starved a node.
	Expected bool `json:"expected,omitempty"`
}

// Crossing counts frames in one direction: Sent = Received + Dropped + Missing.
type Crossing struct {
	Sent     int64   `json:"sent"`             // frames that the senders gave to their cards
	Received int64   `json:"received"`         // frames that the cards of the receivers took in
	Dropped  int64   `json:"dropped"`          // frames dropped on the way, at known places
	Places   []Place `json:"places,omitempty"` // the parts of Dropped, the largest first
	// Missing is the rest: frames dropped at a place that no counter covers, or under way when the
	// counters were read. It is negative where a frame for several nodes arrived at each of them.
	Missing int64 `json:"missing"`
}

// Place names a part of the way between a node and one of its links where frames were dropped.
type Place struct {
	Node   string `json:"node"`   // the node at one end of the way
	Link   string `json:"link"`   // the link at its other end
	Part   Part   `json:"part"`   // of the way: card, uplink, conditions, queue or filter
	Frames int64  `json:"frames"` // dropped there
}

// Part is a part of the way of a frame between a node and a link of the lab.
type Part string

// The parts, from the node that sends.
const (
	PartCard   Part = "card"   // the node's card or its queue, instead of sending
	PartUplink Part = "uplink" // between the node's card and the lab: a cable that is out
	// PartConditions stands for the conditions of the link, in the lab or in the node itself.
	PartConditions Part = "conditions"
	// PartQueue is the lab's queue towards the node, which did not take its frames in time.
	PartQueue Part = "queue"
	// PartFilter is the node's card, which did not pass the frame to the node's kernel: a multicast
	// to a group that the kernel did not join, or a cable that is out.
	PartFilter Part = "filter"
)

// words names the place.
func (p Place) words() string {
	way := p.Node + "/" + p.Link
	switch p.Part {
	case PartCard:
		return "the card of " + way
	case PartUplink:
		return "the cable from " + way
	case PartConditions:
		return "the conditions of " + way
	case PartQueue:
		return "the lab's queue to " + way
	}
	return way
}

// Add adds frames dropped at a place; fewer than one are none.
func (c *Crossing) Add(p Place) {
	if p.Frames <= 0 {
		return
	}
	c.Places = append(c.Places, p)
	c.Dropped += p.Frames
	slices.SortFunc(c.Places, func(a, b Place) int {
		return cmp.Or(cmp.Compare(b.Frames, a.Frames), cmp.Compare(a.words(), b.words()))
	})
}

// Balance sets Missing, after all frames and places were added.
func (c *Crossing) Balance() { c.Missing = c.Sent - c.Received - c.Dropped }

// Lost returns how many frames did not arrive though they should have, at least 0: a card may well
// leave out multicasts.
func (c Crossing) Lost() int64 {
	lost := max(0, c.Missing)
	for _, p := range c.Places {
		if p.Part != PartFilter {
			lost += p.Frames
		}
	}
	return lost
}

// Limits of what may get lost between the load nodes and the DUT. Single frames may be on their way
// when the counters are read.
const (
	maxLostFrames = 0.005 // share of the frames sent
	lostSlack     = 16    // frames
	// overload is the share from which the load is more than the links carry; a host that was busy
	// for a moment loses less.
	overload = 0.1
)

// Significant reports whether more was lost than the limits allow.
func (c Crossing) Significant() bool {
	lost := c.Lost()
	return lost > lostSlack && float64(lost) > maxLostFrames*float64(c.Sent)
}

// code names the kind of a significant loss.
func (c Crossing) code() Code {
	if float64(c.Lost()) > overload*float64(c.Sent) {
		return CodeOverload
	}
	return CodeLostFrames
}

// Words says how many frames were lost, and where.
func (c Crossing) Words() string {
	var parts []string
	for _, p := range c.Places {
		if p.Part == PartFilter {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s at %s", Count(p.Frames), p.words()))
	}
	if c.Missing > 0 {
		parts = append(parts, fmt.Sprintf("%s at a place that no counter covers", Count(c.Missing)))
	}
	return fmt.Sprintf("%s of %s (%s)", Count(c.Lost()), plural(c.Sent, "frame"), list(parts))
}

// certain returns a crossing without the missing frames that may have been under way.
func (t *Transit) certain(c Crossing) Crossing {
	if c.Missing > 0 {
		c.Missing = max(0, c.Missing-t.Moving)
	}
	return c
}

// lostOnTheWay returns the reasons not to trust a trial whose load did not reach the DUT, or whose
// answers did not come back.
func lostOnTheWay(t *Trial) (reasons []Reason) {
	if t.Transit == nil || t.Transit.Expected {
		return nil
	}
	if to := t.Transit.certain(t.Transit.ToDUT); to.Significant() {
		text := fmt.Sprintf("the DUT never received %s", to.Words())
		if t.Seconds > 0 {
			text += fmt.Sprintf("; the links carried %s frames a second",
				Figure(float64(to.Received)/t.Seconds))
		}
		reasons = append(reasons, Reason{to.code(), text})
	}
	if from := t.Transit.certain(t.Transit.FromDUT); from.Significant() {
		text := fmt.Sprintf("the load nodes never received %s from the DUT", from.Words())
		reasons = append(reasons, Reason{from.code(), text})
	}
	return reasons
}

// transitWords words what the conditions of the links took, or what got lost of the answers.
func transitWords(t *Trial) string {
	if t.Transit == nil {
		return ""
	}
	var parts []string
	for _, way := range []struct {
		to string
		Crossing
	}{
		{"to the DUT", t.Transit.certain(t.Transit.ToDUT)},
		{"from the DUT", t.Transit.certain(t.Transit.FromDUT)},
	} {
		if way.Significant() {
			parts = append(parts, way.Words()+" "+way.to)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Lost on the links: " + list(parts) + "."
}
