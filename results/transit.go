package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Transit follows the frames between the load nodes and the DUT through the lab, from the baseline
// to the end of the watch: cards and lab count them, each for itself.
type Transit struct {
	ToDUT   Crossing `json:"to_dut"`   // from the load nodes to the DUT
	FromDUT Crossing `json:"from_dut"` // from the DUT to the load nodes
	// Expected says that frames were lost on purpose: a link had conditions, or an action stopped or
	// starved a node.
	Expected bool `json:"expected,omitempty"`
}

// Crossing counts frames in one direction: Sent = Received + Dropped + Missing.
type Crossing struct {
	Sent     int64 `json:"sent"`     // frames that the senders gave to their cards
	Received int64 `json:"received"` // frames that the cards of the receivers took in
	Dropped  int64 `json:"dropped"`  // frames dropped on the way, where the lab counts them
	// Places are the parts of Dropped: "client" is the card of that node, "dut/clients" the lab's
	// end of the DUT's link of that name.
	Places map[string]int64 `json:"places,omitempty"`
	// Missing is the rest. It is negative where a frame for several nodes arrived at each of them.
	Missing int64 `json:"missing"`
}

// Add adds dropped frames at a place.
func (c *Crossing) Add(place string, dropped int64) {
	if dropped <= 0 {
		return
	}
	if c.Places == nil {
		c.Places = map[string]int64{}
	}
	c.Places[place] += dropped
	c.Dropped += dropped
}

// Lost returns how many frames did not arrive, at least 0.
func (c Crossing) Lost() int64 { return c.Dropped + max(0, c.Missing) }

// LostShare returns the lost share of the frames sent, 0 to 1.
func (c Crossing) LostShare() float64 {
	if c.Sent == 0 {
		return 0
	}
	return min(1, float64(c.Lost())/float64(c.Sent))
}

// Limits of what may get lost between the load nodes and the DUT. Single frames may be on their way
// when the counters are read.
const (
	maxLostFrames = 0.005 // share of the frames sent
	lostSlack     = 16    // frames
)

// significant reports whether more was lost than the limits allow.
func (c Crossing) significant() bool {
	return c.Lost() > lostSlack && c.LostShare() > maxLostFrames
}

// words says how many frames were lost, and where.
func (c Crossing) words() string {
	places := slices.SortedFunc(maps.Keys(c.Places), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Places[b], c.Places[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, place := range places {
		parts = append(parts, fmt.Sprintf("%s at %s", Count(c.Places[place]), placeWords(place)))
	}
	if c.Missing > 0 {
		parts = append(parts, fmt.Sprintf("%s at a place that no counter covers", Count(c.Missing)))
	}
	return fmt.Sprintf("%s of %s (%s)", Count(c.Lost()), plural(c.Sent, "frame"), list(parts))
}

// placeWords names a key of [Crossing.Places].
func placeWords(place string) string {
	if strings.Contains(place, "/") {
		return "the lab's end of " + place
	}
	return "the card of " + place
}

// lostOnTheWay returns the reason not to trust a trial whose load did not reach the DUT.
func lostOnTheWay(t *Trial) []Reason {
	if t.Transit == nil || t.Transit.Expected || !t.Transit.ToDUT.significant() {
		return nil
	}
	text := fmt.Sprintf("the DUT never received %s", t.Transit.ToDUT.words())
	if t.Seconds > 0 {
		text += fmt.Sprintf("; the links carried %s frames a second: offer less than that",
			Figure(float64(t.Transit.ToDUT.Received)/t.Seconds))
	}
	return []Reason{{CodeLostFrames, text}}
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
	}{{"to the DUT", t.Transit.ToDUT}, {"from the DUT", t.Transit.FromDUT}} {
		if way.significant() {
			parts = append(parts, way.words()+" "+way.to)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Lost on the links: " + list(parts) + "."
}
