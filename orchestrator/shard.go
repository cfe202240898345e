package orchestrator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// Deal leaves the plan the trials of one shard, number (from 1) of several. The seed deals: each
// shard has within one as many trials as any other, in all and of each scenario, and keeps the
// order of the plan.
func (p *Plan) Deal(number, of int) error {
	if number < 1 || number > of || of > len(p.Order) {
		return fmt.Errorf("the run has %d trials, too few for shard %d of %d", len(p.Order), number,
			of)
	}
	shard := p.dealt(of)
	p.Order = slices.DeleteFunc(p.Order, func(s Slot) bool { return shard(s) != number })
	p.Shard = &results.Shard{Number: number, Of: of}
	for _, slot := range p.Order {
		p.Shard.Trials = append(p.Shard.Trials, p.Name(slot))
	}
	return nil
}

// dealt returns a function that tells a slot's shard, from 1, where there are that many.
func (p *Plan) dealt(shards int) func(Slot) int {
	draw := rand.New(rand.NewPCG(p.Seed, 1)).Perm(shards)
	return func(s Slot) int {
		return 1 + draw[(s.Scenario*p.Experiment.Trials+s.Number-1)%shards]
	}
}

// repetition returns the number of a scenario's nth repeated trial, from 1. Each shard has numbers
// of its own.
func (p *Plan) repetition(n int) int {
	if p.Shard != nil {
		n = (n-1)*p.Shard.Of + p.Shard.Number
	}
	return p.Experiment.Trials + n
}

// repetitions returns n of [Plan.repetition] for the number of a trial; 0: it repeats none.
func (p *Plan) repetitions(number int) int {
	n := number - p.Experiment.Trials
	if p.Shard != nil && n > 0 {
		n = (n-1)/p.Shard.Of + 1
	}
	return max(n, 0)
}

// SharedSeed returns the seed of an experiment that has none, the same on every host, so that its
// shards need no other agreement: a hash of the experiment as it runs.
func SharedSeed(e *scenarios.Experiment) (uint64, error) {
	text, err := e.MarshalYAML()
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])>>12 + 1, nil // exact in JSON readers that use doubles
}
