package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// listing is the beginning of one walk over the table.
type listing struct {
	list  []capture.Entry
	ids   []uint32 // the kernel's identifiers of the entries in list
	scope capture.Scope
	// before and after are the numbers of entries around the walk.
	before, after int64
}

// whole returns the number of living entries of the table. A walk frees the expired entries that it
// meets; where it ends early, those of the rest are estimated by them.
func (l listing) whole() int64 {
	n := int64(len(l.list))
	if l.scope != capture.Prefix || n == 0 {
		return n
	}
	freed := max(0, l.before-l.after)
	return max(n, l.before*n/(n+freed))
}

// errEnough ends a walk.
var errEnough = errors.New("enough entries")

const (
	// entriesAtOnce is after how many entries a walk pauses: the kernel walks some milliseconds at
	// a time, and others get the CPU in between.
	entriesAtOnce = 500
	pause         = time.Millisecond
)

// entries lists the first entries of the table; most bounds their number. They lie in the order of
// a keyed hash: they are a fair sample. The socket is closed when there are enough, which ends the
// kernel's walk.
func (t *taker) entries(ctx context.Context, most int) (l listing, err error) {
	if most == 0 || t.WithoutRoot {
		return l, nil
	}
	if !t.hasNetlink() {
		t.problem("entries", errors.New("the module nf_conntrack_netlink is not loaded, and a "+
			"capture loads none: modprobe nf_conntrack_netlink, or save conntrack -L for "+
			"ctload explain"))
		return l, nil
	}
	if l.before, err = t.count(); err != nil {
		return l, err
	}
	room := min(most, int(l.before)) // the file's size without a copy for each growth
	l.list, l.ids = make([]capture.Entry, 0, room), make([]uint32, 0, room)
	l.scope = capture.Whole
	whole, err := t.walk(ctx, most, func(e ctnetlink.Entry) {
		l.list, l.ids = append(l.list, converted(e)), append(l.ids, e.ID)
	})
	if !whole {
		l.scope = capture.Prefix
	}
	if err != nil && ctx.Err() == nil && len(l.list) == 0 {
		t.problem("entries", err)
		return listing{}, nil
	}
	if err == nil {
		l.after, err = t.count()
	}
	return l, err
}

// comparedAtLeast is the number of entries that a second listing covers, unless a fourth of the
// first one is more: the share of a state that stays is good to a percent then.
const comparedAtLeast = 5000

// again walks over the begin of the same part of the table and tells which entries are still there
// in the same state. A table that has grown has more entries in that part.
func (t *taker) again(ctx context.Context, l listing) error {
	now, err := t.count()
	if err != nil {
		return err
	}
	const more = 1.05 // for what chance and expired entries add
	grown := max(1, float64(now)/float64(max(1, l.before)))
	compared := min(len(l.list), max(comparedAtLeast, len(l.list)/4))
	states := make(map[uint32]string, compared)
	whole, err := t.walk(ctx, int(float64(compared)*grown*more), func(e ctnetlink.Entry) {
		states[e.ID] = stateOf(e)
	})
	reached := 0 // how many of the first listing the second one covers
	for i, id := range l.ids {
		if _, there := states[id]; there || whole {
			reached = i + 1
		}
	}
	for i := range l.list[:reached] {
		e := &l.list[i]
		state, there := states[l.ids[i]]
		e.Stays = there && state == e.State
		e.Gone = !e.Stays
	}
	return err
}

// walk passes each of the first entries to each, and reports whether these were all.
func (t *taker) walk(
	ctx context.Context, most int, each func(ctnetlink.Entry),
) (whole bool, err error) {
	n := 0
	err = ctnetlink.Walk(ctx, func(e ctnetlink.Entry) error {
		if n == most {
			return errEnough
		}
		each(e)
		if n++; n%entriesAtOnce == 0 {
			time.Sleep(pause)
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return false, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	}
	return err == nil, err
}

// hasNetlink reports whether the kernel can list entries without loading a module.
func (t *taker) hasNetlink() bool {
	const module = "nf_conntrack_netlink"
	if _, err := os.Stat(filepath.Join(t.Sys, "module", module)); err == nil {
		return true
	}
	modules, err := os.ReadFile(filepath.Join(t.Proc, "modules"))
	if err == nil && strings.Contains(string(modules), module+" ") {
		return true
	}
	builtin, err := os.ReadFile(filepath.Join("/lib/modules", kernels.Running(), "modules.builtin"))
	if err == nil {
		return strings.Contains(string(builtin), "/"+module+".ko")
	}
	// A kernel without modules has all that it has built in.
	_, err = os.Stat(filepath.Join(t.Proc, "modules"))
	return err != nil
}

// converted returns an entry as a capture has it.
func converted(e ctnetlink.Entry) capture.Entry {
	return capture.Entry{
		Protocol: e.ProtocolName(), Left: e.Left, Unreplied: !e.Replied, Assured: e.Assured,
		Offloaded: e.Offloaded, Helper: e.Helper, Zone: int64(e.Zone),
		Original: tuple(e.Tuple), Reply: tuple(e.Reply), State: stateOf(e),
	}
}

// stateOf returns the state of an entry; empty for protocols without states.
func stateOf(e ctnetlink.Entry) string {
	if e.State == ctnetlink.NoState {
		return ""
	}
	return e.StateName()
}

func tuple(t ctnetlink.Tuple) capture.Tuple {
	c := capture.Tuple{
		Source: t.Source, Destination: t.Destination,
		SourcePort: t.SourcePort, DestinationPort: t.DestinationPort,
	}
	if t.Protocol == ctnetlink.Protocols["icmp"] || t.Protocol == ctnetlink.Protocols["icmpv6"] {
		c.Type = strconv.Itoa(int(t.Type))
	}
	return c
}
