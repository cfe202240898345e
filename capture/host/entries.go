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
	order []uint32          // the identifiers of the entries in list
	state map[uint32]string // of the same entries
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
	entriesAtOnce = 200
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
	l.state = map[uint32]string{}
	l.scope = capture.Whole
	if l.before, err = t.count(); err != nil {
		return l, err
	}
	err = ctnetlink.Walk(ctx, func(e ctnetlink.Entry) error {
		if len(l.list) == most {
			l.scope = capture.Prefix
			return errEnough
		}
		c := converted(e)
		l.list = append(l.list, c)
		l.order = append(l.order, e.ID)
		l.state[e.ID] = c.State
		if len(l.list)%entriesAtOnce == 0 {
			time.Sleep(pause)
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		l.after, err = t.count()
	case ctx.Err() != nil:
		return l, context.Cause(ctx)
	case err != nil && len(l.list) == 0:
		t.problem("entries", err)
		return listing{}, nil
	}
	return l, err
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
	c := capture.Entry{
		Protocol: e.ProtocolName(), Left: e.Left, Unreplied: !e.Replied, Assured: e.Assured,
		Offloaded: e.Offloaded, Helper: e.Helper, Zone: int64(e.Zone),
		Original: tuple(e.Tuple), Reply: tuple(e.Reply),
	}
	if e.State != ctnetlink.NoState {
		c.State = e.StateName()
	}
	return c
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
