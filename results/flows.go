package results

import (
	"fmt"
	"math"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
)

// Flows is a steady load without bounds: flows that come at even rates, beside connections that are
// open all the time. It is a [Offer].
type Flows struct {
	Pairs    []Pair
	Held     int64 // entries that stay
	NATPorts int64 // ports that NAT has for all of them; 0: no NAT
}

// Pair is a rate of new flows and how long each entry lives.
type Pair struct {
	Rate      float64 // new connections or flows per second
	Residence float64 // seconds from the first packet to the last, and the timeout that follows
	// State is the state in which the load leaves the entry, as the user named it; empty: unknown.
	State string
}

// Validate reports what is wrong with the load.
func (f Flows) Validate() error {
	if len(f.Pairs) == 0 && f.Held == 0 {
		return fmt.Errorf("there is no load, neither a rate nor held entries")
	}
	for _, p := range f.Pairs {
		switch {
		case p.Rate < 0 || p.Residence < 0 || f.Held < 0 || f.NATPorts < 0:
			return fmt.Errorf("rate, residence, held entries and ports cannot be negative")
		case p.Rate > 0 && p.Residence == 0:
			return fmt.Errorf("a rate needs the residence of an entry")
		}
	}
	return nil
}

// rate returns the sum of the rates, and the mean residence that keeps Little's law.
func (f Flows) rate() (rate, residence float64) {
	for _, p := range f.Pairs {
		rate += p.Rate
		residence += p.Rate * p.Residence
	}
	if rate > 0 {
		residence /= rate
	}
	return rate, residence
}

// Predict implements [Offer]. After three lives and ten idle scans of the collector the table
// repeats itself. Pairs whose entries live less than a few steps of a long simulation are simulated
// by themselves, and their peak is added.
func (f Flows) Predict(size kernels.Size) Prediction {
	longest := 0.0
	for _, p := range f.Pairs {
		longest = max(longest, p.Residence)
	}
	in := occupancy.Input{
		Max: size.Max, Buckets: size.Buckets, Held: float64(f.Held), Until: 3*longest + 600,
	}
	room := size.Max - f.Held
	if f.NATPorts > 0 { // what is held has ports too
		in.Pools = []int64{max(0, f.NATPorts-f.Held)}
		room = min(room, in.Pools[0])
	}
	brief := Flows{}
	for _, p := range f.Pairs {
		if p.Residence < in.Until/4000 && p.Residence < longest {
			brief.Pairs = append(brief.Pairs, p)
			continue
		}
		s := occupancy.Stream{
			Arrivals: func(t float64) float64 { return p.Rate * max(0, t) },
			States:   []occupancy.State{{Timeout: p.Residence, Class: occupancy.Kept}},
		}
		if f.NATPorts > 0 {
			s.Pool, s.Walks = 1, 2
		}
		in.Streams = append(in.Streams, s)
	}
	if len(brief.Pairs) > 0 {
		in.Held += float64(brief.Predict(kernels.Size{Buckets: size.Buckets}).Peak)
	}
	over := 0.0
	if size.Max > 0 {
		over = max(0, in.Held-float64(size.Max))
		in.Held -= over
	}
	// The collector's first scan a minute away leaves the most entries.
	r := occupancy.At(in, 60)
	if r.Peak > 1.01*r.Outcome.Alive {
		r.LowPeak = min(r.LowPeak, occupancy.At(in, 1).Peak)
	}
	p := PredictionOf([]occupancy.Range{r}, size, f.NATPorts)
	p.NATRefused = 0 // of a load without end
	rate, residence := f.rate()
	p.Describe(rate, residence, room, true)
	p.Overflow += int64(math.Round(over))
	if over > 0 {
		p.SecondsToFull = new(float64)
	}
	return p
}

// Shorter implements [Offer].
func (f Flows) Shorter(factor float64) Offer {
	if len(f.Pairs) == 0 {
		return nil
	}
	shorter := f
	shorter.Pairs = nil
	for _, p := range f.Pairs {
		p.Residence *= factor
		shorter.Pairs = append(shorter.Pairs, p)
	}
	return shorter
}

// Words implements [Offer].
func (f Flows) Words() string {
	var parts []string
	for _, p := range f.Pairs {
		parts = append(parts, fmt.Sprintf("%s/s for %s s", Figure(p.Rate), Figure(p.Residence)))
	}
	if f.Held > 0 {
		parts = append(parts, Count(f.Held)+" held entries")
	}
	return strings.Join(parts, " and ")
}
