// Package tuples chooses the addresses and ports of a load: a space of sources, source ports,
// targets and target ports, and an [Allocator] that walks through it in an order given by a seed,
// without repeating a tuple until all are used. It is pure.
package tuples

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Addresses is a set of addresses of one family in a fixed order. It is kept as ranges, so that a
// /8 costs no more than one address. The zero value is empty.
type Addresses struct {
	ranges []addressRange
	count  uint64
}

// addressRange holds count consecutive addresses.
type addressRange struct {
	first netip.Addr
	count uint64
	start uint64 // number of addresses in the ranges before this one
}

// ParseAddresses parses a comma-separated list of addresses ("192.0.2.1", "fd00::1"), prefixes
// ("10.1.0.0/16": for IPv4 up to /30 without the network and broadcast address) and ranges
// ("10.0.0.5-10.0.0.9"): at most 2^63 addresses, each once, of one family. An IPv4-mapped IPv6
// address counts as IPv4.
func ParseAddresses(text string) (Addresses, error) {
	var a Addresses
	for item := range strings.SplitSeq(text, ",") {
		r, err := parseRange(strings.TrimSpace(item))
		if err != nil {
			return Addresses{}, err
		}
		if len(a.ranges) > 0 && a.ranges[0].first.Is4() != r.first.Is4() {
			return Addresses{}, fmt.Errorf("addresses %q mix IPv4 and IPv6", text)
		}
		if a.count+r.count > math.MaxInt64 {
			return Addresses{}, fmt.Errorf("addresses %q are more than 2^63", text)
		}
		r.start = a.count
		a.count += r.count
		a.ranges = append(a.ranges, r)
	}
	if err := a.disjoint(); err != nil {
		return Addresses{}, fmt.Errorf("addresses %q: %w", text, err)
	}
	return a, nil
}

func parseRange(item string) (addressRange, error) {
	if strings.Contains(item, "/") {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return addressRange{}, notAddresses(item)
		}
		return prefixRange(prefix.Masked())
	}
	from, to, isRange := strings.Cut(item, "-")
	first, err := netip.ParseAddr(from)
	if err != nil {
		return addressRange{}, notAddresses(item)
	}
	first = first.Unmap()
	if !isRange {
		return addressRange{first: first, count: 1}, nil
	}
	last, err := netip.ParseAddr(to)
	if err != nil {
		return addressRange{}, notAddresses(item)
	}
	last = last.Unmap()
	if first.Is4() != last.Is4() || last.Less(first) || first.Zone() != last.Zone() {
		return addressRange{}, fmt.Errorf("addresses %q: the end is not after the start", item)
	}
	n, ok := distance(first, last)
	if !ok {
		return addressRange{}, fmt.Errorf("addresses %q are more than 2^63", item)
	}
	return addressRange{first: first, count: n + 1}, nil
}

func notAddresses(item string) error {
	return fmt.Errorf("%q is no address, prefix or range, "+
		"such as 10.0.0.2, 10.9.0.0/16 or 10.0.0.2-10.0.0.9", item)
}

func prefixRange(prefix netip.Prefix) (addressRange, error) {
	bits := prefix.Addr().BitLen() - prefix.Bits()
	if bits > 62 {
		return addressRange{}, fmt.Errorf("addresses %q are more than 2^62", prefix)
	}
	r := addressRange{first: prefix.Addr(), count: 1 << bits}
	if prefix.Addr().Is4() && bits >= 2 {
		r.first, r.count = r.first.Next(), r.count-2
	}
	return r, nil
}

// distance returns how far b is after a, of the same family; false from 2^63-1 on or where b is
// before a.
func distance(a, b netip.Addr) (uint64, bool) {
	x, y := a.As16(), b.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(y[8:]), binary.BigEndian.Uint64(x[8:]), 0)
	high := binary.BigEndian.Uint64(y[:8]) - binary.BigEndian.Uint64(x[:8]) - borrow
	return low, high == 0 && low < math.MaxInt64
}

func (a Addresses) disjoint() error {
	order := func(x, y addressRange) int { return x.first.Compare(y.first) }
	sorted := slices.SortedFunc(slices.Values(a.ranges), order)
	for i := 1; i < len(sorted); i++ {
		if before := sorted[i-1]; add(before.first, before.count-1).Compare(sorted[i].first) >= 0 {
			return fmt.Errorf("%s occurs twice", sorted[i].first)
		}
	}
	return nil
}

// Len returns the number of addresses.
func (a Addresses) Len() uint64 { return a.count }

// Is4 reports whether the addresses are IPv4.
func (a Addresses) Is4() bool { return len(a.ranges) > 0 && a.ranges[0].first.Is4() }

// At returns address i of the set, 0 <= i < Len. It panics beyond.
func (a Addresses) At(i uint64) netip.Addr {
	if i >= a.count {
		panic(fmt.Sprintf("address %d of %d", i, a.count))
	}
	return a.pick(i)
}

// pick returns address i; the zero address of an empty set, a dimension left to the kernel.
func (a *Addresses) pick(i uint64) netip.Addr {
	for r := range a.ranges {
		if r := &a.ranges[r]; i == r.start {
			return r.first
		} else if i < r.start+r.count {
			return add(r.first, i-r.start)
		}
	}
	return netip.Addr{}
}

// add returns the address n after a. The caller ensures that the addition does not wrap.
func add(a netip.Addr, n uint64) netip.Addr {
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	low := binary.BigEndian.Uint64(b[8:])
	if low+n < low {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+1)
	}
	binary.BigEndian.PutUint64(b[8:], low+n)
	return netip.AddrFrom16(b).WithZone(a.Zone())
}

// String formats the set as ParseAddresses reads it.
func (a Addresses) String() string {
	items := make([]string, len(a.ranges))
	for i, r := range a.ranges {
		items[i] = r.first.String()
		if r.count > 1 {
			items[i] += "-" + add(r.first, r.count-1).String()
		}
	}
	return strings.Join(items, ",")
}

// ParsePorts parses a comma-separated list of ports and ranges: "80", "8000-8063,9000". Ports keep
// their order, none may occur twice, and 0 is invalid.
func ParsePorts(text string) ([]uint16, error) {
	var ports []uint16
	var seen [1 << 16]bool
	for item := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			to = from
		}
		first, errFirst := strconv.ParseUint(from, 10, 16)
		last, errLast := strconv.ParseUint(to, 10, 16)
		if errFirst != nil || errLast != nil || first == 0 || last < first {
			return nil, fmt.Errorf("%q is not a port or a range of ports within 1-65535, "+
				"such as 80 or 8000-8063", item)
		}
		for p := first; p <= last; p++ {
			if seen[p] {
				return nil, fmt.Errorf("ports %q: %d occurs twice", text, p)
			}
			seen[p] = true
			ports = append(ports, uint16(p))
		}
	}
	return ports, nil
}

// Ranges yields the first and the last address of each range.
func (a Addresses) Ranges() iter.Seq2[netip.Addr, netip.Addr] {
	return func(yield func(first, last netip.Addr) bool) {
		for _, r := range a.ranges {
			if !yield(r.first, add(r.first, r.count-1)) {
				return
			}
		}
	}
}

// FormatPorts formats ports as ParsePorts reads them, with runs of neighbours as ranges.
func FormatPorts(ports []uint16) string {
	var items []string
	for i := 0; i < len(ports); {
		last := i
		for last+1 < len(ports) && ports[last+1] == ports[last]+1 {
			last++
		}
		item := strconv.Itoa(int(ports[i]))
		if last > i {
			item += "-" + strconv.Itoa(int(ports[last]))
		}
		items = append(items, item)
		i = last + 1
	}
	return strings.Join(items, ",")
}

// Index returns the position of an address, the inverse of At, or false when the set does not have
// it.
func (a Addresses) Index(address netip.Addr) (uint64, bool) {
	for _, r := range a.ranges {
		if r.first.Is4() != address.Is4() || r.first.Zone() != address.Zone() {
			continue
		}
		if n, ok := distance(r.first, address); ok && n < r.count {
			return r.start + n, true
		}
	}
	return 0, false
}

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
	// Zipf weighs the sources: the k-th, from 1, gets a share of the tuples proportional to
	// k^-Zipf. At 0 all get the same.
	Zipf float64
}

// Source returns the combination of a source address and a source port of this number: the port
// changes fastest.
func (s *Space) Source(n uint64) netip.AddrPort { return combine(&s.Sources, s.SourcePorts, n) }

// Target returns the combination of a target and a target port of this number.
func (s *Space) Target(n uint64) netip.AddrPort { return combine(&s.Targets, s.TargetPorts, n) }

func combine(set *Addresses, ports []uint16, n uint64) netip.AddrPort {
	if len(ports) == 0 {
		return netip.AddrPortFrom(set.pick(n), 0)
	}
	each := uint64(len(ports))
	return netip.AddrPortFrom(set.pick(n/each), ports[n%each])
}

// Tuple is one combination.
type Tuple struct {
	Source, Target netip.AddrPort
}

// Allocator walks through a space. It numbers the tuples from 0, and the same seed gives the same
// order. Seed 0 walks in order: the target's port changes fastest, then the target, then the source
// port, then the source. Any other seed takes a stride coprime to the space's size, which reaches
// each tuple once. Where the sources have weights, each walks through its own tuples, and begins
// again when it has used them all.
type Allocator struct {
	space          Space
	sp, t, tp      uint64 // size of the dimensions after the first
	size           uint64
	stride, offset uint64
	inverse        uint64 // of stride, modulo size

	talkers *talkers   // nil where all sources get the same
	each    *Allocator // the walk of each talker through its tuples

	sourcePorts, targetPorts func() []int32 // for Find, see positions
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
	if space.Zipf > 0 && space.Sources.Len() > 1 {
		return a, a.weigh(seed)
	}
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

// weigh makes the allocator give the sources their weights.
func (a *Allocator) weigh(seed uint64) (err error) {
	own := a.space
	own.Sources, own.Zipf = Addresses{}, 0
	if a.each, err = NewAllocator(own, seed); err == nil {
		a.talkers, err = newTalkers(a.space.Sources.Len(), a.space.Zipf, seed)
	}
	if err == nil {
		a.size = a.talkers.room(a.each.size)
	}
	return err
}

// Weighted reports whether the sources have weights.
func (a *Allocator) Weighted() bool { return a.talkers != nil }

// Len returns the number of tuples in the space. Where the sources have weights, these are the
// tuples before the first one repeats.
func (a *Allocator) Len() uint64 { return a.size }

// Room returns the number of tuples if there are so many for each one of the space, as where the
// kernel chooses the source ports.
func (a *Allocator) Room(each uint64) float64 {
	if a.talkers != nil {
		return float64(a.talkers.room(a.each.size * each))
	}
	return float64(a.size) * float64(each)
}

// Check returns an error that wraps [ErrExhausted] when the space has fewer than n tuples.
func (a *Allocator) Check(n uint64) error {
	if n <= a.size {
		return nil
	}
	return fmt.Errorf("%w: %d wanted, %s", ErrExhausted, n, a.Describe())
}

// Describe returns the sizes of the space and its dimensions: "131072 tuples (2 sources x 64 source
// ports x 1 target x 1024 target ports)".
func (a *Allocator) Describe() string {
	sources := count(max(a.space.Sources.Len(), 1), "source")
	if a.talkers != nil {
		sources += " by weight"
	}
	return fmt.Sprintf("%s (%s x %s x %s x %s)", count(a.size, "tuple"), sources,
		count(a.sp, "source port"),
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
	var from, to uint16
	if len(a.space.SourcePorts) > 0 {
		from = a.space.SourcePorts[sp]
	}
	if len(a.space.TargetPorts) > 0 {
		to = a.space.TargetPorts[tp]
	}
	return Tuple{
		Source: netip.AddrPortFrom(a.space.Sources.pick(s), from),
		Target: netip.AddrPortFrom(a.space.Targets.pick(t), to),
	}
}

// Split returns the positions of tuple i in the four dimensions.
func (a *Allocator) Split(i uint64) (source, sourcePort, target, targetPort uint64) {
	if a.talkers != nil {
		source, i = a.talkers.split(i)
		_, sourcePort, target, targetPort = a.each.Split(i)
		return source, sourcePort, target, targetPort
	}
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

// Index returns the number of the tuple at these positions, Len or more for one that the walk does
// not reach. It is the inverse of Split.
func (a *Allocator) Index(source, sourcePort, target, targetPort uint64) uint64 {
	if a.talkers != nil {
		before := a.each.Index(0, sourcePort, target, targetPort)
		if i, ok := a.talkers.index(source, before); ok {
			return i
		}
		return a.size
	}
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
	s, sp, ok := find(&a.space.Sources, a.sourcePorts, tuple.Source)
	t, tp, too := find(&a.space.Targets, a.targetPorts, tuple.Target)
	i := a.Index(s, sp, t, tp)
	return i, ok && too && i < a.size
}

// find returns the positions of an address and its port in two dimensions.
func find(set *Addresses, ports func() []int32, end netip.AddrPort) (at, port uint64, ok bool) {
	ok = true
	if set.count > 0 {
		at, ok = set.Index(end.Addr())
	}
	if all := ports(); ok && all != nil {
		i := all[end.Port()]
		return at, uint64(i), i >= 0
	}
	return at, port, ok
}

// positions returns the position of each port, -1 where there is none; nil for no ports. It is made
// at the first use, since most plans only count their tuples.
func positions(ports []uint16) func() []int32 {
	return sync.OnceValue(func() []int32 {
		if len(ports) == 0 {
			return nil
		}
		at := slices.Repeat([]int32{-1}, 1<<16)
		for i, port := range ports {
			at[port] = int32(i)
		}
		return at
	})
}
