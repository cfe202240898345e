package tuples

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// ErrExhausted means that every tuple of a space has been used.
var ErrExhausted = errors.New("tuples exhausted")

// Space describes the tuples that a load may use: every combination of a source address, a source
// port, a target address and a target port. An empty dimension is left to the kernel: each tuple
// then has an invalid address or port 0.
type Space struct {
	Sources     Addresses
	SourcePorts []uint16
	Targets     Addresses
	TargetPorts []uint16
}

// Tuple is one combination.
type Tuple struct {
	Source, Target netip.AddrPort
}

// Allocator walks through a space. It numbers the tuples from 0; each number is another tuple, and
// the same seed gives the same order. Seed 0 walks in order: the target's port changes fastest,
// then the target, then the source port, then the source. Any other seed jumps through the space
// with a stride coprime to its size, which reaches each tuple once.
type Allocator struct {
	space          Space
	sp, t, tp      uint64 // size of the dimensions after the first
	size           uint64
	stride, offset uint64
	inverse        uint64 // of stride, modulo size

	sourcePorts, targetPorts map[uint16]uint64 // positions, for Find
}

// NewAllocator returns the walk through space that seed selects. A space has at most 2^62 tuples.
func NewAllocator(space Space, seed uint64) (*Allocator, error) {
	a := &Allocator{
		space: space,
		sp:    max(uint64(len(space.SourcePorts)), 1),
		t:     max(space.Targets.Len(), 1),
		tp:    max(uint64(len(space.TargetPorts)), 1),
		size:  1,

		sourcePorts: positions(space.SourcePorts),
		targetPorts: positions(space.TargetPorts),
	}
	for _, n := range []uint64{max(space.Sources.Len(), 1), a.sp, a.t, a.tp} {
		high, low := bits.Mul64(a.size, n)
		if high != 0 || low > 1<<62 {
			return nil, errors.New("the space of tuples has more than 2^62")
		}
		a.size = low
	}
	a.stride, a.inverse = 1, 1
	if seed != 0 && a.size > 2 {
		// The constant is arbitrary. It separates this use of a seed from others.
		random := rand.New(rand.NewPCG(seed, 0x6374_6c6f_6164))
		a.offset = random.Uint64N(a.size)
		size := new(big.Int).SetUint64(a.size)
		var inverse *big.Int // nil where the stride has none, because it is not coprime to the size
		for inverse == nil {
			a.stride = 1 + random.Uint64N(a.size-1)
			inverse = new(big.Int).ModInverse(new(big.Int).SetUint64(a.stride), size)
		}
		a.inverse = inverse.Uint64()
	}
	return a, nil
}

// Len returns the number of tuples in the space.
func (a *Allocator) Len() uint64 { return a.size }

// Check returns an error that wraps [ErrExhausted] and names the dimensions when the space has
// fewer than n tuples.
func (a *Allocator) Check(n uint64) error {
	if n <= a.size {
		return nil
	}
	return fmt.Errorf("%w: %d wanted, %s", ErrExhausted, n, a.Describe())
}

// Describe returns the size of the space and of its dimensions: "131072 tuples (2 sources x 64
// source ports x 1 target x 1024 target ports)".
func (a *Allocator) Describe() string {
	return fmt.Sprintf("%d tuples (%s x %s x %s x %s)", a.size,
		count(max(a.space.Sources.Len(), 1), "source"), count(a.sp, "source port"),
		count(a.t, "target"), count(a.tp, "target port"))
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// position returns the place of tuple i in the space: (i·stride + offset) mod size.
func (a *Allocator) position(i uint64) uint64 {
	if a.stride == 1 {
		if p := i + a.offset; p < a.size {
			return p
		}
		return (i + a.offset) % a.size
	}
	if i < math.MaxUint32 && a.stride < math.MaxUint32 {
		return (i*a.stride + a.offset) % a.size
	}
	high, low := bits.Mul64(i, a.stride)
	low, carry := bits.Add64(low, a.offset, 0)
	_, rest := bits.Div64((high+carry)%a.size, low, a.size)
	return rest
}

// At returns tuple i. Past the end the walk begins again, so that i and i+Len are the same tuple. A
// caller that must not repeat one calls Check first.
func (a *Allocator) At(i uint64) Tuple {
	s, sp, t, tp := a.Split(i)
	var tuple Tuple
	var port uint16
	if len(a.space.SourcePorts) > 0 {
		port = a.space.SourcePorts[sp]
	}
	tuple.Source = netip.AddrPortFrom(a.space.Sources.pick(s), port)
	if port = 0; len(a.space.TargetPorts) > 0 {
		port = a.space.TargetPorts[tp]
	}
	tuple.Target = netip.AddrPortFrom(a.space.Targets.pick(t), port)
	return tuple
}

// Split returns the positions of tuple i in the four dimensions.
func (a *Allocator) Split(i uint64) (source, sourcePort, target, targetPort uint64) {
	if i >= a.size {
		i %= a.size
	}
	// Divisions dominate the cost, and many dimensions have a size of 1.
	source = a.position(i)
	if a.tp > 1 {
		source, targetPort = source/a.tp, source%a.tp
	}
	if a.t > 1 {
		source, target = source/a.t, source%a.t
	}
	if a.sp > 1 {
		source, sourcePort = source/a.sp, source%a.sp
	}
	return source, sourcePort, target, targetPort
}

// Index returns the number of the tuple at these positions. It is the inverse of Split.
func (a *Allocator) Index(source, sourcePort, target, targetPort uint64) uint64 {
	p := ((source*a.sp+sourcePort)*a.t+target)*a.tp + targetPort
	p = (p + a.size - a.offset%a.size) % a.size
	if a.stride == 1 {
		return p
	}
	high, low := bits.Mul64(p, a.inverse)
	_, rest := bits.Div64(high%a.size, low, a.size)
	return rest
}

// Find returns the number of a tuple, or false when the space does not have it. A dimension left to
// the kernel matches anything.
func (a *Allocator) Find(tuple Tuple) (uint64, bool) {
	var position [4]uint64
	for i, end := range [2]struct {
		set   *Addresses
		ports map[uint16]uint64
		netip.AddrPort
	}{{&a.space.Sources, a.sourcePorts, tuple.Source}, {&a.space.Targets, a.targetPorts, tuple.Target}} {
		var ok bool
		if end.set.Len() > 0 {
			if position[2*i], ok = end.set.Index(end.Addr()); !ok {
				return 0, false
			}
		}
		if len(end.ports) > 0 {
			if position[2*i+1], ok = end.ports[end.Port()]; !ok {
				return 0, false
			}
		}
	}
	return a.Index(position[0], position[1], position[2], position[3]), true
}

// positions maps each port to its position in the list.
func positions(ports []uint16) map[uint16]uint64 {
	at := make(map[uint16]uint64, len(ports))
	for i, port := range ports {
		at[port] = uint64(i)
	}
	return at
}
