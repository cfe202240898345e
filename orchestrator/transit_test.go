package orchestrator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/results"
)

// TestBalance follows frames from a client to a machine as DUT and back. Each place on the way
// drops some.
func TestBalance(t *testing.T) {
	client, dut := place{"client", "client"}, place{"dut", "client"}
	before := frames{
		cards: map[place]agent.Card{client: {Sent: 7, Received: 5}, dut: {Sent: 5, Received: 3}},
		ends: map[place]link.Count{
			client: {FromNode: 7, ToNode: 5, Dropped: 1}, dut: {FromNode: 5, ToNode: 7, Dropped: 2},
		},
	}
	after := frames{
		cards: map[place]agent.Card{
			client: {Sent: 7 + 990, Received: 5 + 300, Dropped: 10},
			// Conditions in the machine drop 50 of the frames that its card has received.
			dut: {Sent: 5 + 320, Received: 3 + 600, ShapedReceived: 50},
		},
		ends: map[place]link.Count{
			// Of 990 frames the conditions of this end drop 90.
			client: {FromNode: 7 + 990, ToNode: 5 + 300, Dropped: 1 + 15, ShapedFrom: 90},
			// Of 900 the machine's queue drops 295; its card leaves out 5 multicasts.
			dut: {FromNode: 5 + 315, ToNode: 7 + 605, Dropped: 2 + 295, Impaired: true},
		},
	}
	at := func(p place, part results.Part, n int64) results.Place {
		return results.Place{Node: p.node, Link: p.link, Part: part, Frames: n}
	}
	want := &results.Transit{
		ToDUT: results.Crossing{
			Sent: 1000, Received: 550, Dropped: 450, Places: []results.Place{
				at(dut, results.PartQueue, 295), at(client, results.PartConditions, 90),
				at(dut, results.PartConditions, 50), at(client, results.PartCard, 10),
				at(dut, results.PartFilter, 5),
			},
		},
		FromDUT: results.Crossing{
			Sent: 320, Received: 300, Dropped: 20, Places: []results.Place{
				at(client, results.PartQueue, 15), at(dut, results.PartUplink, 5),
			},
		},
		Expected: true,
	}
	if diff := cmp.Diff(want, balance(after.since(before), "dut")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	// Counters of card and end that were not read at one moment show no place.
	after.moving = 30
	moving := balance(after.since(before), "dut")
	if moving.Moving != 30 || moving.ToDUT.Missing != 5 || moving.FromDUT.Missing != 5 {
		t.Errorf("while frames move: %+v", moving)
	}
}
