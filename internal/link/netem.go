package link

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Shape sets conditions with netem on an interface of the caller's network namespace, in place of
// those of an earlier Shape: sent applies to frames that leave through the interface, received to
// those that arrive. Zero conditions leave a direction alone. Shape ignores carrier and partition,
// which netem does not handle.
//
// Arriving frames pass through an interface of their own, an ifb, since a queueing discipline
// handles leaving frames. Shape needs CAP_NET_ADMIN, and a kernel with sch_netem, and for received
// also ifb, sch_ingress, cls_matchall and act_mirred (Linux 4.8); see [missingNetem].
//
// Shape refuses an interface with a queueing discipline that it did not make.
func Shape(name string, sent, received Conditions) error {
	port, err := lookUp(name)
	if err != nil {
		return err
	}
	if err := unshape(port); err != nil {
		return err
	}
	if sent.Shapes() {
		if err := addNetem(port, sent); err != nil {
			return err
		}
	}
	if received.Shapes() {
		if err := shapeReceived(port, received); err != nil {
			return errors.Join(err, unshape(port))
		}
	}
	return nil
}

// unshapeNamed undoes [Shape]. It does nothing for an interface that Shape did not change or that
// is gone.
func unshapeNamed(name string) error {
	port, err := lookFor(name)
	switch {
	case err != nil:
		return err
	case port == nil:
		return Remove(ifbName(name))
	}
	return unshape(port)
}

// Shaped reads back from the kernel what netem does on an interface, to leaving and to arriving
// frames. Times come in netem's unit of 64 ns, shares in 1/2^32.
func Shaped(name string) (sent, received Conditions, err error) {
	port, err := lookUp(name)
	if err != nil {
		return sent, received, err
	}
	if sent, err = readNetem(port); err != nil {
		return sent, received, err
	}
	ifb, err := lookFor(ifbName(name))
	if err == nil && ifb != nil {
		received, err = readNetem(ifb)
	}
	return sent, received, err
}

// missingNetem says why the kernel of the caller's network namespace cannot shape, after it tried
// on an interface made for that; "" where it can.
func missingNetem() string {
	const name = "ctload-netem"
	bridge, err := newBridge(name)
	if err != nil {
		return err.Error()
	}
	some := Conditions{Delay: time.Millisecond}
	if err := errors.Join(Shape(name, some, some), unshapeNamed(name), bridge.Close()); err != nil {
		return err.Error()
	}
	return ""
}

// disciplines returns the queueing disciplines of an interface. The kernel lists those of others
// too.
func disciplines(port netlink.Link) ([]netlink.Qdisc, error) {
	list, err := netlink.QdiscList(port)
	others := func(q netlink.Qdisc) bool { return q.Attrs().LinkIndex != port.Attrs().Index }
	return slices.DeleteFunc(list, others),
		wrap(err, "list the queueing disciplines of %s", port.Attrs().Name)
}

// netemHandle is the handle of our netem discipline at the root of an interface. It tells ours from
// others.
var netemHandle = netlink.MakeHandle(0xc71d, 0)

// addNetem makes netem the root discipline of an interface.
func addNetem(port netlink.Link, c Conditions) error {
	name := port.Attrs().Name
	list, err := disciplines(port)
	if err != nil {
		return err
	}
	for _, q := range list {
		// The kernel's own default discipline has no handle.
		if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Handle != 0 {
			return fmt.Errorf("%s has a queueing discipline of its own (%s), which is left alone",
				name, q.Type())
		}
	}
	netem := netemOf(c)
	netem.QdiscAttrs = netlink.QdiscAttrs{
		LinkIndex: port.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netemHandle,
	}
	err = netlink.QdiscAdd(netem)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the kernel has no sch_netem, or does not find it: %w", err)
	}
	return wrap(err, "shape %s (%v)", name, c)
}

// harmless makes our netem on an interface pass all frames on. It does nothing without one.
func harmless(name string) error {
	port, err := lookFor(name)
	if err != nil || port == nil {
		return err
	}
	list, err := disciplines(port)
	if err != nil {
		return err
	}
	for _, q := range list {
		if a := q.Attrs(); a.Handle == netemHandle {
			netem := netemOf(Conditions{})
			netem.QdiscAttrs = *a
			return wrap(netlink.QdiscChange(netem), "take the conditions off %s", name)
		}
	}
	return nil
}

func netemOf(c Conditions) *netlink.Netem {
	// With a gap of 1, netem sends the share ReorderProb of the frames at once and delays the
	// others.
	gap := uint32(0)
	if c.Reorder > 0 {
		gap = 1
	}
	return &netlink.Netem{
		Latency: toTicks(c.Delay), Jitter: toTicks(c.Jitter),
		Loss: toShare(c.Loss), Duplicate: toShare(c.Duplicate), CorruptProb: toShare(c.Corrupt),
		ReorderProb: toShare(c.Reorder), Gap: gap,
		Rate64: uint64(c.Rate / 8),
		Limit:  netemLimit,
	}
}

// netemLimit is the number of frames that may wait: more than any load sends in a second or two, so
// that only the requested share is lost.
const netemLimit = 200000

// tick is netem's unit of time in struct tc_netem_qopt: PSCHED_SHIFT is 6 since Linux 2.6.32.
const tick = 64 * time.Nanosecond

func toTicks(d time.Duration) uint32   { return uint32(min(int64(d/tick), math.MaxUint32)) }
func fromTicks(n uint32) time.Duration { return time.Duration(n) * tick }

func toShare(share float64) uint32   { return uint32(math.Round(share * math.MaxUint32)) }
func fromShare(share uint32) float64 { return float64(share) / math.MaxUint32 }

func readNetem(port netlink.Link) (Conditions, error) {
	list, err := disciplines(port)
	if err != nil {
		return Conditions{}, err
	}
	for _, q := range list {
		netem, ok := q.(*netlink.Netem)
		if !ok || netem.Handle != netemHandle {
			continue
		}
		return Conditions{
			Loss: fromShare(netem.Loss), Rate: int64(netem.Rate64) * 8,
			Delay: fromTicks(netem.Latency), Jitter: fromTicks(netem.Jitter),
			Reorder: fromShare(netem.ReorderProb), Duplicate: fromShare(netem.Duplicate),
			Corrupt: fromShare(netem.CorruptProb),
		}, nil
	}
	return Conditions{}, nil
}

// ifbName returns the name of the ifb for frames that arrive through an interface. Both names have
// at most 15 bytes.
func ifbName(name string) string {
	const prefix = "ctif."
	return prefix + name[max(0, len(name)-(unix.IFNAMSIZ-1-len(prefix))):]
}

// shapeReceived redirects arriving frames through an ifb with netem on it. From there they continue
// as if they had just arrived.
func shapeReceived(port netlink.Link, c Conditions) error {
	name := port.Attrs().Name
	made := &netlink.Ifb{LinkAttrs: named(ifbName(name), queueLength)}
	if err := netlink.LinkAdd(made); err != nil {
		return fmt.Errorf("make an ifb for what comes in through %s: %w", name, err)
	}
	ifb, err := lookUp(ifbName(name))
	if err != nil {
		return err
	}
	if err := addNetem(ifb, c); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(ifb); err != nil {
		return fmt.Errorf("bring %s up: %w", ifbName(name), err)
	}
	index, handle := port.Attrs().Index, netlink.MakeHandle(0xffff, 0)
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: handle, Parent: netlink.HANDLE_INGRESS,
	}}
	if err := netlink.QdiscAdd(ingress); err != nil {
		return fmt.Errorf("take what comes in through %s (sch_ingress): %w", name, err)
	}
	redirect := &netlink.MatchAll{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: handle, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{netlink.NewMirredAction(ifb.Attrs().Index)},
	}
	return wrap(netlink.FilterAdd(redirect),
		"lead what comes in through %s into %s (cls_matchall, act_mirred)", name, ifbName(name))
}

// unshape removes our disciplines of both directions, and no others.
func unshape(port netlink.Link) error {
	name := port.Attrs().Name
	list, err := disciplines(port)
	if err != nil {
		return err
	}
	ours, err := lookFor(ifbName(name))
	if err != nil {
		return err
	}
	var errs []error
	for _, q := range list {
		a := q.Attrs()
		if a.Handle == netemHandle || ours != nil && a.Parent == netlink.HANDLE_INGRESS {
			errs = append(errs, wrap(netlink.QdiscDel(q), "take the queueing discipline %s off %s",
				q.Type(), name))
		}
	}
	return errors.Join(append(errs, Remove(ifbName(name)))...)
}
