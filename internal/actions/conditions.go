package actions

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Conditions are what a link does to the frames between one node and the rest of the link. The zero
// value is a link in order. A share is between 0 and 1.
//
// The words are those of netem (tc-netem(8)), which makes all but the last two. They hold for each
// direction on its own: 10 ms on both are 20 ms on a round trip, and a loss of 5 % on both costs an
// exchange of two frames with a probability of 9.75 %.
type Conditions struct {
	Direction Direction     `json:"direction,omitempty"` // empty: both
	Loss      float64       `json:"loss,omitempty"`      // share of frames
	Delay     time.Duration `json:"delay,omitempty"`
	Jitter    time.Duration `json:"jitter,omitempty"`    // ±; frames may overtake each other
	Reorder   float64       `json:"reorder,omitempty"`   // share of frames not delayed
	Duplicate float64       `json:"duplicate,omitempty"` // share of frames sent twice
	Corrupt   float64       `json:"corrupt,omitempty"`   // share of frames with a bit turned
	Rate      int64         `json:"rate,omitempty"`      // bits per second; 0: as fast as it goes

	// Partitioned lets no frame pass, while the node still sees a carrier.
	Partitioned bool `json:"partitioned,omitempty"`
	// Down takes the carrier away, as a cable that is pulled out.
	Down bool `json:"down,omitempty"`
}

// Direction is the way of the frames that conditions hold for, seen from the node.
type Direction string

// The directions.
const (
	Both Direction = "both"
	To   Direction = "to"   // towards the node
	From Direction = "from" // from the node
)

// Words returns the valid values.
func (Direction) Words() []string { return []string{string(Both), string(To), string(From)} }

// Holds reports whether the conditions are for that one direction.
func (c Conditions) Holds(direction Direction) bool {
	return c.Direction == "" || c.Direction == Both || c.Direction == direction
}

// Shapes reports whether a link needs netem, which loses, delays, copies or changes frames.
func (c Conditions) Shapes() bool {
	c.Direction, c.Partitioned, c.Down = "", false, false
	return c != Conditions{}
}

// longestDelay is far above any network's; netem keeps every frame for so long.
const longestDelay = time.Minute

// Validate returns an error for each condition that is out of its range or contradicts another.
func (c Conditions) Validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for i, share := range []float64{c.Loss, c.Reorder, c.Duplicate, c.Corrupt} {
		name := []string{"loss", "reorder", "duplicate", "corrupt"}[i]
		inRange := share >= 0 && share <= 1 // false for NaN
		refuse(!inRange, "%s %v: a share lies between 0 and 1", name, share)
	}
	for i, time := range []time.Duration{c.Delay, c.Jitter} {
		refuse(time < 0 || time > longestDelay, "%s %v: not between 0 and %v",
			[]string{"delay", "jitter"}[i], time, longestDelay)
	}
	refuse(c.Jitter > c.Delay, "jitter %v is over the delay %v: a frame cannot arrive before it "+
		"was sent", c.Jitter, c.Delay)
	refuse(c.Reorder > 0 && c.Delay == 0, "reorder needs a delay: frames overtake those that wait")
	refuse(c.Rate < 0 || c.Rate > 0 && c.Rate < 8,
		"rate %d: not a number of bits per second, of 8 or more", c.Rate)
	refuse(c.Direction != "" && !slices.Contains(c.Direction.Words(), string(c.Direction)),
		"direction %q: none of %q, %q, %q", c.Direction, Both, To, From)
	refuse((c.Down || c.Partitioned) && !(c.Holds(To) && c.Holds(From)),
		"a link that is down or partitioned is so in both directions")
	refuse(c == Conditions{Direction: c.Direction}, "no condition is given")
	return errors.Join(errs...)
}

// String words the conditions: "loss 5%, delay 50ms".
func (c Conditions) String() string {
	var words []string
	add := func(on bool, format string, args ...any) {
		if on {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(c.Down, "down")
	add(c.Partitioned, "partitioned")
	add(c.Loss > 0, "loss %.4g%%", 100*c.Loss)
	add(c.Delay > 0, "delay %v", c.Delay)
	add(c.Jitter > 0, "jitter %v", c.Jitter)
	add(c.Reorder > 0, "reorder %.4g%%", 100*c.Reorder)
	add(c.Duplicate > 0, "duplicate %.4g%%", 100*c.Duplicate)
	add(c.Corrupt > 0, "corrupt %.4g%%", 100*c.Corrupt)
	add(c.Rate > 0, "rate %dbit/s", c.Rate)
	if len(words) == 0 {
		return "in order"
	}
	add(!c.Holds(From), "towards the node alone")
	add(!c.Holds(To), "from the node alone")
	return strings.Join(words, ", ")
}

// Near reports whether conditions that were read back are the requested ones, to the precision of
// netem's units.
func (c Conditions) Near(want Conditions) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
	nearTime := func(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }
	return near(c.Loss, want.Loss) && near(c.Reorder, want.Reorder) &&
		near(c.Duplicate, want.Duplicate) && near(c.Corrupt, want.Corrupt) &&
		nearTime(c.Delay, want.Delay) && nearTime(c.Jitter, want.Jitter) && c.Rate/8 == want.Rate/8
}

// Split returns the conditions of each direction, seen from the node; a partition is a loss of all.
func (c Conditions) Split() (to, from Conditions) {
	one := c
	one.Direction, one.Partitioned, one.Down = "", false, false
	if c.Partitioned {
		one.Loss = 1
	}
	if c.Holds(To) {
		to = one
	}
	if c.Holds(From) {
		from = one
	}
	return to, from
}
