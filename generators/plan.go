package generators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// plan is a valid spec with its defaults filled in and its lists expanded.
type plan struct {
	Spec

	space    tuples.Space
	tuples   *tuples.Allocator
	schedule pacing.Schedule // nil: a closed loop, or as fast as possible
	traits   *traits         // of its kind
}

// Validate reports what is wrong with the spec, without access to the machine.
func (s Spec) Validate() error {
	_, err := s.plan()
	return err
}

func (s Spec) plan() (*plan, error) {
	p := &plan{Spec: s}
	p.defaults()
	if err := errors.Join(p.checkBounds(), p.checkKind()); err != nil {
		return nil, err
	}
	var err error
	if p.schedule, err = p.newSchedule(); err != nil {
		return nil, err
	}
	if p.space, err = p.newSpace(); err != nil {
		return nil, err
	}
	if p.crafted() {
		if _, err := p.newTemplate(packets.Link{}); err != nil {
			return nil, err
		}
	}
	return p, p.allocate()
}

// allocate orders the tuples and checks that they suffice.
func (p *plan) allocate() (err error) {
	if p.tuples, err = tuples.NewAllocator(p.space, p.Seed); err != nil {
		return err
	}
	return errors.Join(p.checkTuples(), p.checkInFlight())
}

// ends orders the sources and the targets of the tuples separately.
func (p *plan) ends() (sources, targets *tuples.Allocator, err error) {
	from, to := p.space, p.space
	from.Targets, from.TargetPorts = tuples.Addresses{}, nil
	to.Sources, to.SourcePorts, to.Zipf = tuples.Addresses{}, nil, 0
	if sources, err = tuples.NewAllocator(from, p.Seed); err == nil {
		targets, err = tuples.NewAllocator(to, p.Seed)
	}
	return sources, targets, err
}

// Tuples returns the number of different tuples of a load, whatever the weights of its sources. It
// returns 0 where the kernel chooses the source ports and for an invalid spec.
func (s Spec) Tuples() int64 {
	s.Zipf = 0
	p := &plan{Spec: s}
	p.defaults()
	space, err := p.newSpace()
	if err != nil || len(space.SourcePorts) == 0 {
		return 0
	}
	all, err := tuples.NewAllocator(space, 0)
	if err != nil {
		return 1 << 62 // there are more
	}
	return int64(all.Len())
}

// exhaustible reports whether the load must end when each of its tuples has been used once: that of
// crafted packets, and of datagrams from named source ports.
func (p *plan) exhaustible() bool {
	return !p.Reuse && (p.crafted() || p.traits.flows && len(p.space.SourcePorts) > 0)
}

// checkTuples refuses a load that needs more tuples than there are, by its count or by its rate and
// duration.
func (p *plan) checkTuples() error {
	if !p.exhaustible() {
		return nil
	}
	n, due := p.Count, p.due()
	if n == 0 || due > 0 && due < n {
		n = due
	}
	err := p.tuples.Check(uint64(n))
	switch {
	case err == nil:
		return nil
	case p.crafted() && p.awaited():
		return fmt.Errorf("%w; name more sources or ports", err)
	}
	return fmt.Errorf("%w; reuse would begin again", err)
}

// due returns how many an open loop begins until its duration or its stages end; 0 where these do
// not tell.
func (p *plan) due() int64 {
	d, n := p.Duration.Seconds(), 0.0
	switch f := p.Profile; {
	case f == nil:
		n = p.Rate * d
	case f.Bursts != nil:
		n = float64(f.Bursts.Size) * math.Ceil(d/f.Bursts.Every.Seconds())
	case f.Sine != nil:
		n = f.Sine.Mean * d
	default:
		for _, s := range f.Stages {
			n += (s.From + s.To) / 2 * s.Duration.Seconds()
		}
	}
	if p.Arrivals == Poisson {
		n += 4 * math.Sqrt(n) // more than that come once in 30,000 loads
	}
	return int64(math.Ceil(n - 1e-6))
}

// inFlight returns how many sockets a load may have open at once; 0 where only the answers limit
// them.
func (p *plan) inFlight() int64 {
	n := int64(p.Concurrency)
	switch {
	case p.crafted():
		return 0
	case p.Kind == Hold:
		n = max(n, p.Count)
	}
	if !p.Lifetime.None() && p.openLoop() {
		// About rate x life are open, with room for the chance in it.
		longest := p.Lifetime.Average()
		if p.Duration > 0 {
			longest = min(longest, p.Duration)
		}
		living := int64(1.2*p.peakRate()*longest.Seconds()) + 64
		if n = max(n, living); p.Count > 0 {
			n = min(n, p.Count)
		}
	}
	return n
}

// peakRate returns the highest rate of an open loop, over the time between two bursts.
func (p *plan) peakRate() float64 {
	peak := p.Rate
	if f := p.Profile; f != nil {
		for _, s := range f.Stages {
			peak = max(peak, s.From, s.To)
		}
		if f.Bursts != nil {
			peak = float64(f.Bursts.Size) / f.Bursts.Every.Seconds()
		}
		if f.Sine != nil {
			peak = f.Sine.Mean + f.Sine.Amplitude
		}
	}
	return peak
}

// life returns how long number n stays.
func (p *plan) life(n int64) time.Duration { return p.Lifetime.Draw(p.Seed^p.Stream, n) }

// workerConcurrency returns how many of Concurrency worker number, from 0, may have in flight; 0
// without a limit. The shares add up to Concurrency, and defaults leaves no worker without one.
func (p *plan) workerConcurrency(number int) int {
	return (p.Concurrency + p.Workers - 1 - number) / p.Workers
}

// chosenPorts is the largest number of source ports that the kernel chooses from
// (net.ipv4.ip_local_port_range).
const chosenPorts = 1<<16 - 1024

// checkInFlight refuses a load that needs more descriptors than a process can have, and a closed
// loop wider than the tuples. A load that holds connections may exceed them: its result counts the
// connections that find no port.
func (p *plan) checkInFlight() error {
	if p.descriptors() > sockets.PlentyDescriptors {
		return fmt.Errorf("%d at once are more than a process has descriptors for: %d (fs.nr_open)",
			p.inFlight(), sockets.PlentyDescriptors)
	}
	room, ports := float64(p.tuples.Len()), ""
	if len(p.space.SourcePorts) == 0 {
		room = p.tuples.Room(chosenPorts)
		ports = fmt.Sprintf("; of each source the kernel chooses from %d ports", chosenPorts)
	}
	if !p.crafted() && float64(p.Concurrency) > room {
		return fmt.Errorf("%d at once are more than the tuples: %s%s; name more sources or ports",
			p.Concurrency, p.tuples.Describe(), ports)
	}
	return nil
}

// CheckDescriptors returns an error for a load that has more sockets open at once than this process
// may open. It raises the process's limit where it may.
func (s Spec) CheckDescriptors() error {
	p, err := s.plan()
	if err != nil {
		return err
	}
	limit, err := sockets.RaiseDescriptors(p.descriptors())
	if err != nil {
		return err
	}
	if n := p.inFlight(); uint64(n) > limit {
		return fmt.Errorf("%d at once are more than this process may open: %d; "+
			"raise the limit with ulimit -n %d, or ask for fewer", n, limit, p.descriptors())
	}
	return nil
}

// most returns how many requests, connections, flows or packets may begin at all; 0: only the time
// limits them.
func (p *plan) most() int64 {
	most := p.Count
	if most == 0 && p.exhaustible() {
		most = int64(p.tuples.Len())
	}
	if p.crafted() && p.awaited() {
		most = min(most, mostAwaited)
	}
	return most
}

func (p *plan) defaults() {
	p.traits = traitsOf(p.Kind)
	if p.traits.defaults != nil {
		p.traits.defaults(&p.Spec)
	}
	p.Timeout = cmp.Or(p.Timeout, DefaultTimeout)
	p.Close = cmp.Or(p.Close, CloseFIN)
	if p.crafted() {
		p.SourcePorts = cmp.Or(p.SourcePorts, "1024-65535")
	}
	p.KeepAlive = max(p.KeepAlive, 1)
	p.Path = cmp.Or(p.Path, "/")
	if p.traits.flows && p.awaited() && p.SourcePorts != "" {
		// With two workers on one port, the kernel would give all answers to one of them.
		p.Workers = 1
	}
	p.Workers = cmp.Or(p.Workers, runtime.NumCPU())
	p.CloseBy = cmp.Or(p.CloseBy, Client)
	if p.Concurrency > 0 {
		p.Workers = min(p.Workers, p.Concurrency)
	}
	if p.AtOnce > 1 {
		p.Workers = 1 // the barrier brings its own threads
	}
	if p.Count > 0 {
		p.Workers = int(min(int64(p.Workers), p.Count))
	}
}

// openLoop reports whether a rate drives the load.
func (p *plan) openLoop() bool { return p.schedule != nil }

// crafted reports whether the packets are made in user space.
func (p *plan) crafted() bool {
	return p.traits.crafts && (p.traits.engine == nil || p.Crafted)
}

// refuse returns an error with this text, or nil where the spec is not wrong.
func refuse(wrong bool, format string, args ...any) error {
	if !wrong {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func (p *plan) checkBounds() error {
	endless := p.Count <= 0 && p.Duration <= 0 && (p.Profile == nil || len(p.Profile.Stages) == 0)
	errs := []error{refuse(endless, "a load needs a count or a duration")}
	for _, bound := range []struct {
		name  string
		value float64
		most  float64
	}{
		{"count", float64(p.Count), 1 << 50},
		{"concurrency", float64(p.Concurrency), 1 << 30},
		{"rate", p.Rate, 1e8},
		{"duration", p.Duration.Seconds(), (30 * 24 * time.Hour).Seconds()},
		{"timeout", p.Timeout.Seconds(), time.Hour.Seconds()},
		{"syn retries", float64(p.SYNRetries), 127},
		{"slack", p.Slack.Seconds(), time.Hour.Seconds()},
		{"interval", p.Interval.Seconds(), (24 * time.Hour).Seconds()},
		{"payload", float64(p.Payload), 1 << 20},
		{"expect", float64(p.Expect), 1 << 40},
		{"exchanges", float64(p.Exchanges), 1 << 20},
		{"keep-alive", float64(p.KeepAlive), 1 << 30},
		{"zipf", p.Zipf, 10},
		{"workers", float64(p.Workers), 1024},
		{"at once", float64(p.AtOnce), mostAtOnce},
	} {
		beyond := !(bound.value >= 0 && bound.value <= bound.most)
		errs = append(errs, refuse(beyond, "%s must be 0 to %v, not %v",
			bound.name, bound.most, bound.value))
	}
	return errors.Join(errs...)
}

func (p *plan) checkKind() error {
	var errs []error
	switch check := p.traits.check; {
	case p.traits.kind == "":
		all := strings.Join(named(func(traits) bool { return true }), ", ")
		errs = append(errs, fmt.Errorf("kind must be one of %s, not %q", all, p.Kind))
	case check != nil:
		errs = append(errs, check(&p.Spec))
	}
	errs = append(errs, p.checkCrafted())
	switch {
	case p.AtOnce <= 1:
	case !p.traits.atOnce:
		able := strings.Join(named(func(t traits) bool { return t.atOnce }), " or ")
		errs = append(errs, fmt.Errorf("at once needs the kind %s, not %s", able, p.Kind))
	case p.Kind == TCP:
		errs = append(errs, refuse(p.SourcePorts == "" || len(p.Ports) < p.AtOnce,
			"%d connections at once need source ports, and as many destination ports", p.AtOnce))
	}
	if !p.Lifetime.None() && !p.traits.lives {
		able := strings.Join(named(func(t traits) bool { return t.lives }), ", ")
		errs = append(errs, fmt.Errorf("a lifetime needs a kind of %s, not %s", able, p.Kind))
	}
	errs = append(errs, p.Lifetime.Validate())
	mode := slices.Contains([]CloseMode{CloseFIN, CloseRST, CloseAbandon, CloseHalf}, p.Close)
	side := p.CloseBy == Client || p.CloseBy == Server
	portless := p.traits.portless != nil && p.traits.portless(&p.Spec)
	return errors.Join(append(errs,
		refuse(!mode, "close must be fin, rst, abandon or half-close, not %q", p.Close),
		refuse(!side, "close by must be client or server, not %q", p.CloseBy),
		refuse(portless && len(p.Ports) > 0, "packets of icmp go to no port: leave out ports"),
		refuse(!portless && len(p.Ports) == 0, "name a destination port"))...)
}

// checkCrafted refuses options that only sockets support for crafted packets, and options of
// crafted packets for sockets.
func (p *plan) checkCrafted() error {
	kind := refuse(p.Crafted && (p.traits.engine == nil || !p.traits.crafts), "crafted needs the "+
		"kind udp: syn, handshake and icmp are always crafted, other kinds need sockets")
	if !p.crafted() {
		return errors.Join(kind, refuse(p.Interface != "" || p.Gateway != "",
			"interface and gateway need crafted packets: sockets follow the kernel's routes"))
	}
	return errors.Join(kind,
		refuse(p.Kind != ICMP && p.Sources == "", "no sources: name addresses that this host does "+
			"not own, since its kernel would reset the answers"),
		refuse(p.awaited() && p.Reuse, "tuples whose packets await answers cannot be used again"),
		refuse(p.awaited() && p.Timeout > longestAwaiting,
			"timeout must be at most %s, not %s", longestAwaiting, p.Timeout),
		refuse(p.awaited() && p.Count > mostAwaited,
			"at most %d packets can await answers, not %d", mostAwaited, p.Count),
		p.checkSilent())
}

// checkSilent refuses crafted datagrams with an option that needs a socket or an answer.
func (p *plan) checkSilent() error {
	var with []string
	for _, option := range []struct {
		name string
		is   bool
	}{
		{"reply", p.Reply}, {"exchanges", p.Exchanges > 0}, {"interval", p.Interval > 0},
		{"lifetime", !p.Lifetime.None()},
		{"concurrency", p.Concurrency > 0}, {"at once", p.AtOnce > 1}, {"free bind", p.FreeBind},
	} {
		if option.is {
			with = append(with, option.name)
		}
	}
	return refuse(p.Kind == UDP && len(with) > 0, "crafted datagrams have no socket and await no "+
		"answer: leave out %s, or crafted", strings.Join(with, ", "))
}

// OneWay reports whether the load asks for no answer: what it sent is then all that it tells.
func (s Spec) OneWay() bool {
	p := &plan{Spec: s, traits: traitsOf(s.Kind)}
	return p.traits.crafts && !p.awaited()
}

// Unit returns what the results of a kind count: requests, connections, flows, packets or samples.
func (k Kind) Unit() string { return traitsOf(k).unit }

// awaited reports whether the load awaits answers.
func (p *plan) awaited() bool {
	return p.Reply || p.traits.awaits != nil && p.traits.awaits(&p.Spec)
}

// newSchedule turns rate or profile into a schedule.
func (p *plan) newSchedule() (pacing.Schedule, error) {
	var even pacing.Schedule
	switch {
	case p.Profile == nil && p.Rate == 0:
		return nil, refuse(p.Arrivals != "" && p.Arrivals != Even,
			"arrivals need a rate: those of a closed loop begin when others end")
	case p.Profile == nil:
		even = pacing.Constant(p.Rate)
	case p.Rate != 0:
		return nil, errors.New("rate and profile exclude each other")
	default:
		var err error
		if even, err = p.Profile.schedule(); err != nil {
			return nil, err
		}
	}
	switch p.Arrivals {
	case "", Even:
		return even, nil
	case Poisson:
		return pacing.NewPoisson(even, p.Seed^p.Stream)
	}
	return nil, fmt.Errorf("arrivals must be even or poisson, not %q", p.Arrivals)
}

func (f Profile) schedule() (pacing.Schedule, error) {
	var schedules []pacing.Schedule
	var errs []error
	if len(f.Stages) > 0 {
		schedules, errs = append(schedules, f.Stages), append(errs, f.Stages.Validate())
	}
	if f.Bursts != nil {
		schedules, errs = append(schedules, *f.Bursts), append(errs, f.Bursts.Validate())
	}
	if f.Sine != nil {
		schedules, errs = append(schedules, *f.Sine), append(errs, f.Sine.Validate())
	}
	if len(schedules) != 1 {
		return nil, fmt.Errorf("a profile must have one of stages, bursts and sine, not %d",
			len(schedules))
	}
	return schedules[0], errors.Join(errs...)
}

// newSpace expands addresses and ports, and refuses public ones that the spec does not allow.
func (p *plan) newSpace() (tuples.Space, error) {
	space := tuples.Space{TargetPorts: p.Ports, Zipf: p.Zipf}
	var err error
	if space.Targets, err = tuples.ParseAddresses(p.Target); err != nil {
		return space, fmt.Errorf("target: %w", err)
	}
	if public, found := firstPublic(space.Targets); found && !p.AllowPublic {
		return space, fmt.Errorf("target %s is a public address, which was not allowed explicitly",
			public)
	}
	if p.Sources != "" {
		if space.Sources, err = tuples.ParseAddresses(p.Sources); err != nil {
			return space, fmt.Errorf("sources: %w", err)
		}
		if public, found := firstPublic(space.Sources); found && !p.AllowPublic {
			return space, fmt.Errorf("source %s is a public address, whose owner would get the "+
				"answers; it was not allowed explicitly", public)
		}
		if space.Sources.Is4() != space.Targets.Is4() {
			return space, fmt.Errorf("sources %s and target %s are of different families",
				p.Sources, p.Target)
		}
	}
	if p.SourcePorts != "" {
		if space.SourcePorts, err = tuples.ParsePorts(p.SourcePorts); err != nil {
			return space, fmt.Errorf("source ports: %w", err)
		}
	}
	return space, nil
}

// harmless lists the ranges that a load may target, or come from, without AllowPublic. The public
// Internet does not route them (IANA's special-purpose registries, RFC 6890).
var harmless = func() (prefixes []netip.Prefix) {
	for s := range strings.FieldsSeq(`
		10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 127.0.0.0/8 169.254.0.0/16 100.64.0.0/10
		192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 198.18.0.0/15
		::1/128 fc00::/7 fe80::/10 2001:db8::/32 2001:2::/48`) {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	return prefixes
}()

// firstPublic finds an address of the set outside the harmless ranges. A range of the set lies
// inside a harmless one if both of its ends do.
func firstPublic(set tuples.Addresses) (netip.Addr, bool) {
	for first, last := range set.Ranges() {
		first, last = first.WithZone(""), last.WithZone("")
		if !slices.ContainsFunc(harmless, func(p netip.Prefix) bool {
			return p.Contains(first) && p.Contains(last)
		}) {
			return first, true
		}
	}
	return netip.Addr{}, false
}

// mostAtOnce limits [Spec].AtOnce: each call has a thread that spins until the others are ready.
const mostAtOnce = 16
