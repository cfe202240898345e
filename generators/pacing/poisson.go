package pacing

import (
	"errors"
	"math/rand/v2"
	"time"
)

// Poisson is a schedule of independent arrivals, as those of many users: a Poisson process whose
// rate comes from another schedule. The seed decides its times.
//
// Unlike other schedules it has a state. At may look ahead, and up to [poissonWindow] sends back.
type Poisson struct {
	mean   flowing
	random *rand.Rand
	sums   [poissonWindow]float64 // of send k at k modulo the window
	sum    float64                // of the sends so far: steps of a mean of 1 each
	next   int64                  // the send that has no sum yet
}

// poissonWindow is the number of sends that a schedule remembers.
const poissonWindow = 64

// NewPoisson returns a Poisson process of the rate of mean, which may be any schedule but [Bursts].
func NewPoisson(mean Schedule, seed uint64) (*Poisson, error) {
	even, ok := mean.(flowing)
	if !ok {
		return nil, errors.New("bursts say when each send is due: arrivals cannot be random")
	}
	// The constant separates this use of a seed from others.
	return &Poisson{mean: even, random: rand.New(rand.NewPCG(seed, 0x7061_6365))}, nil
}

// At implements [Schedule]. Steps with an exponential distribution lie between the sends, counted
// in sends of the mean schedule, whose rate may change.
func (p *Poisson) At(k int64) (time.Duration, bool) {
	for ; p.next <= k; p.next++ {
		p.sum += p.random.ExpFloat64()
		p.sums[p.next%poissonWindow] = p.sum
	}
	if p.next-k > poissonWindow {
		panic("pacing: a Poisson schedule was asked for a send that it has forgotten")
	}
	return p.mean.when(p.sums[k%poissonWindow])
}
