package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

// flush removes every entry of the node's network namespace.
func (s *Set) flush(context.Context, Fault) (*change, error) {
	return s.tableChange(func(context.Context, *change) error { return ctnetlink.Flush() })
}

// remove removes the entries that match a filter.
func (s *Set) remove(_ context.Context, f Fault) (*change, error) {
	m, err := compile(f.Delete)
	if err != nil {
		return nil, err
	}
	return s.tableChange(func(ctx context.Context, c *change) error {
		matched, gone, err := ctnetlink.Remove(ctx, m.matches)
		c.found(results.EffectRemoved, strconv.Itoa(matched-gone))
		c.found("entries gone by themselves", strconv.Itoa(gone))
		return err
	})
}

// netlinkModule answers questions about the table. The kernel loads it for the first one.
const netlinkModule = "nf_conntrack_netlink"

// tableChange returns a change of the entries of the table, which must exist.
func (s *Set) tableChange(remove func(context.Context, *change) error) (*change, error) {
	k := s.node.Kernel
	count, err := k.ReadCount()
	if err != nil {
		return nil, err
	}
	if count < 0 {
		return nil, errors.New("connection tracking is not loaded: there is no table")
	}
	before, err := k.ModuleState(netlinkModule)
	if err != nil {
		return nil, err
	}
	c := &change{parts: []*part{{
		subject: kernels.KeyCount,
		read: func(context.Context) (string, error) {
			count, err := k.ReadCount()
			return strconv.FormatInt(count, 10), err
		},
	}}}
	c.do = func(ctx context.Context) error {
		err := remove(ctx, c)
		now, stateErr := k.ModuleState(netlinkModule)
		if stateErr == nil && before == tuning.ModuleAbsent && now != before {
			c.remarks = append(c.remarks, "the kernel loaded "+netlinkModule+" to remove entries")
		}
		return err
	}
	return c, nil
}

func checkDelete(f Fault) error {
	if f.Delete == (Filter{}) {
		return fmt.Errorf("no filter is given; for all entries there is %s", actions.Flush)
	}
	_, err := compile(f.Delete)
	return err
}

// matcher is a filter in the terms of an entry.
type matcher struct {
	protocol            int // -1: any
	state               int // -1: any
	source, destination netip.Prefix
	port, sourcePort    uint16
	unassured           bool
}

// compile checks a filter and translates its words.
func compile(f Filter) (matcher, error) {
	m := matcher{
		protocol: -1, state: -1, port: f.Port, sourcePort: f.SourcePort, unassured: f.Unassured,
	}
	if f.Protocol != "" {
		number, known := ctnetlink.Protocols[strings.ToLower(f.Protocol)]
		if !known {
			n, err := strconv.ParseUint(f.Protocol, 10, 8)
			if err != nil {
				names := strings.Join(slices.Sorted(maps.Keys(ctnetlink.Protocols)), ", ")
				return m, fmt.Errorf("protocol %q: neither a number nor %s", f.Protocol, names)
			}
			number = uint8(n)
		}
		m.protocol = int(number)
	}
	if f.State != "" {
		states := ctnetlink.TCPStates
		if m.state = slices.Index(states, strings.ToUpper(f.State)); m.state < 0 {
			return m, fmt.Errorf("state %q: none of tcp's %s", f.State, strings.Join(states, ", "))
		}
		tcp := int(ctnetlink.Protocols["tcp"])
		if m.protocol >= 0 && m.protocol != tcp {
			return m, fmt.Errorf("state %s: of tcp alone, not of %s", f.State, f.Protocol)
		}
		m.protocol = tcp
	}
	var err error
	if m.source, err = network(f.Source); err != nil {
		return m, fmt.Errorf("source %w", err)
	}
	if m.destination, err = network(f.Destination); err != nil {
		return m, fmt.Errorf("destination %w", err)
	}
	return m, nil
}

// network parses an address or a network; empty is the zero prefix, which matches all.
func network(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%q: neither an address nor a network", text)
	}
	return prefix, nil
}

// matches reports whether the filter selects an entry.
func (m matcher) matches(e ctnetlink.Entry) bool {
	within := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }
	switch {
	case m.protocol >= 0 && m.protocol != int(e.Protocol),
		m.state >= 0 && m.state != int(e.State),
		m.port != 0 && m.port != e.DestinationPort,
		m.sourcePort != 0 && m.sourcePort != e.SourcePort,
		m.unassured && e.Assured:
		return false
	}
	return within(m.source, e.Source) && within(m.destination, e.Destination)
}
