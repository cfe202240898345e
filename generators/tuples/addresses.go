// Package tuples chooses the addresses and ports of a load: a space of sources, source ports,
// targets and target ports, and an [Allocator] that walks through it in an order given by a seed,
// without repeating a tuple until all are used. It is pure.
package tuples

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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
// ("10.1.0.0/16": without the network and broadcast address for IPv4 prefixes up to /30, all
// addresses otherwise) and ranges ("10.0.0.5-10.0.0.9"). All must be of one family, and no address
// may occur twice. An IPv4-mapped IPv6 address counts as IPv4. At most 2^63 addresses.
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
	n := new(big.Int).Sub(number(last), number(first))
	n.Add(n, big.NewInt(1))
	if !n.IsInt64() {
		return addressRange{}, fmt.Errorf("addresses %q are more than 2^63", item)
	}
	return addressRange{first: first, count: n.Uint64()}, nil
}

func notAddresses(item string) error {
	return fmt.Errorf("%q is no address, prefix or range, such as 10.0.0.2, 10.9.0.0/16 or 10.0.0.2-10.0.0.9", item)
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

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func (a Addresses) disjoint() error {
	sorted := slices.SortedFunc(slices.Values(a.ranges), func(x, y addressRange) int {
		return x.first.Compare(y.first)
	})
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

// pick returns address i, or the zero address when the set is empty: a dimension left to the
// kernel.
func (a *Addresses) pick(i uint64) netip.Addr {
	for r := range a.ranges {
		if r := &a.ranges[r]; i < r.start+r.count {
			if i == r.start {
				return r.first
			}
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
			return nil, fmt.Errorf("%q is not a port or a range of ports within 1-65535, such as 80 or 8000-8063", item)
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
func (a Addresses) Ranges() func(yield func(first, last netip.Addr) bool) {
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
		if r.first.Is4() != address.Is4() || address.Less(r.first) || r.first.Zone() != address.Zone() {
			continue
		}
		var distance uint64
		if address.Is4() {
			x, y := address.As4(), r.first.As4()
			distance = uint64(binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(y[:]))
		} else {
			x, y := address.As16(), r.first.As16()
			high := binary.BigEndian.Uint64(x[:8]) - binary.BigEndian.Uint64(y[:8])
			low, borrow := bits.Sub64(binary.BigEndian.Uint64(x[8:]), binary.BigEndian.Uint64(y[8:]), 0)
			if high-borrow != 0 {
				continue
			}
			distance = low
		}
		if distance < r.count {
			return r.start + distance, true
		}
	}
	return 0, false
}
