package occupancy

import (
	"math"
	"slices"
)

// ticks is the number of steps of a simulation, at most; least is the shortest step in seconds.
const (
	ticks = 20_000
	least = 0.0025
)

// cohorts are the entries of one stream in one state. The amounts in the schedules are divided by
// scale, so that an eviction, which meets all alike, changes one figure.
type cohorts struct {
	n       float64
	scale   float64
	expires []float64 // by tick, counted from Input.From
	moves   []float64 // to the next state; nil until one does
	beyond  float64   // entries that do neither before the schedule ends
}

// flow is a stream in a simulation.
type flow struct {
	Stream
	untracked bool
	waits     bool
	since     float64 // when its arrivals began to count
	states    []cohorts
	retries   [][]float64 // attempts by tick: of each repetition
	arriving  []float64   // attempts of this tick, by how often they were made before
	back      []float64   // flows by tick whose entry was removed and that send again
	oldest    int         // no entry in the last state expires before this tick
}

// simulation is a table at a moment.
type simulation struct {
	Input
	Outcome
	dt      float64
	steps   int
	size    int // of a schedule, in ticks
	tick    int
	max     float64 // 0: no limit
	buckets float64
	flows   []flow
	expired float64 // entries that have expired and still count
	scan    float64 // when the collector comes next
	refused bool    // since its last scan
	changes []change
	used    []float64 // ports of each pool
	waiting float64   // refused flows that will try again
	asked   []Moment  // at which conditions were asked, the last second
}

// change is a [Change] that has not happened yet.
type change struct {
	Change
	armed bool // its condition has held
	due   float64
}

// run simulates a table whose collector scans first at a time.
func run(in Input, scan float64) Outcome {
	s := newSimulation(in, scan)
	end := int(math.Ceil((in.Until-in.From)/s.dt - 1e-9))
	for ; s.tick < end || s.tick < s.steps && s.waiting > 1e-3; s.tick++ {
		s.step()
	}
	s.Final = s.count()
	s.Lost += s.waiting
	return s.Outcome
}

func newSimulation(in Input, scan float64) *simulation {
	span := max(in.Until+in.Grace-in.From, least)
	s := &simulation{
		Input: in, dt: max(least, span/ticks), scan: scan,
		max: float64(in.Max), buckets: float64(in.Buckets),
		flows: make([]flow, len(in.Streams)), used: make([]float64, len(in.Pools)),
	}
	s.FullAt = math.NaN()
	s.steps = int(math.Ceil(span/s.dt - 1e-9))
	s.size = s.steps + int(math.Ceil(clampScan/s.dt)) + 2
	for i, stream := range in.Streams {
		f := &s.flows[i]
		f.Stream, f.waits = stream, slices.Contains(in.Waits, i)
		f.states = make([]cohorts, len(stream.States))
		for j := range f.states {
			f.states[j] = cohorts{scale: 1, expires: make([]float64, s.size)}
		}
		f.retries = make([][]float64, len(stream.Retries))
		f.arriving = make([]float64, len(stream.Retries)+1)
	}
	for _, c := range in.Changes {
		s.changes = append(s.changes, change{Change: c, armed: c.When == nil, due: c.At})
	}
	s.Peak, s.Alive = in.Held, in.Held
	return s
}

// now returns the time at which the tick begins.
func (s *simulation) now() float64 { return s.From + float64(s.tick)*s.dt }

// alive returns the entries that have not expired.
func (s *simulation) alive() float64 {
	n := s.Held
	for i := range s.flows {
		for j := range s.flows[i].states {
			n += s.flows[i].states[j].n
		}
	}
	return n
}

func (s *simulation) count() float64 { return s.alive() + s.expired }

// step simulates one tick: changes, the ends of timeouts, the collector, then new flows.
func (s *simulation) step() {
	now := s.now()
	s.apply(now)
	for i := range s.flows {
		s.age(i, now)
	}
	for ; s.scan < now+s.dt; s.collect() {
	}
	s.arrive(now)
	alive := s.alive()
	s.Alive, s.Peak = max(s.Alive, alive), max(s.Peak, alive+s.expired)
	if every := s.Points; every > 0 && s.tick*every/s.steps != (s.tick-1)*every/s.steps {
		s.Counts = append(s.Counts, s.moment(now+s.dt))
	}
}

func (s *simulation) moment(at float64) Moment {
	return Moment{
		Seconds: at, Count: s.count(), Max: s.max, Buckets: s.buckets,
		Drop: s.Drop, EarlyDrop: s.EarlyDrop, Refused: s.Refused,
	}
}

// apply makes the changes that are due.
func (s *simulation) apply(now float64) {
	if len(s.changes) == 0 {
		return
	}
	s.changes = slices.DeleteFunc(s.changes, func(c change) bool {
		return c.armed && now >= c.due && s.change(c.Change, now)
	})
	if n := len(s.asked); now < 0 || n > 0 && now < s.asked[n-1].Seconds+sampled-1e-9 {
		return
	}
	if len(s.asked) > 10 {
		s.asked = s.asked[1:]
	}
	s.asked = append(s.asked, s.moment(now))
	moment, first := &s.asked[len(s.asked)-1], s.asked[0]
	if over := moment.Seconds - first.Seconds; over > 0 {
		moment.DropPerS = (moment.Drop - first.Drop) / over
		moment.EarlyDropPerS = (moment.EarlyDrop - first.EarlyDrop) / over
	}
	for i := range s.changes {
		if c := &s.changes[i]; !c.armed && c.When(*moment) {
			c.armed, c.due = true, now+c.At
		}
	}
}

// sampled is the time, in seconds, from one look at a condition to the next.
const sampled = 0.1

// change makes a change, and returns true.
func (s *simulation) change(c Change, now float64) bool {
	if c.Max > 0 {
		s.max = float64(c.Max)
	}
	if c.Buckets > 0 {
		s.buckets = float64(c.Buckets)
	}
	for i := range s.flows {
		f := &s.flows[i]
		if c.Remove != nil {
			for j := range f.states {
				gone := f.states[j].take(c.Remove(i, j))
				s.Removed += gone
				s.release(f, gone)
				if f.Talks > 0 && f.States[j].Lasts > 0 {
					s.resume(f, gone)
				}
			}
		}
		if update, ok := c.Streams[i]; ok {
			f.untracked, f.Pool = update.Untracked, update.Pool
			f.Refusal = update.Refusal
			if len(update.States) == len(f.States) {
				f.States = update.States
			}
		}
		if slices.Contains(c.Joins, i) {
			f.waits, f.since = false, now
		}
	}
	if c.Remove != nil {
		all := len(s.flows) > 0 && c.Remove(0, 0) == 1
		if all {
			s.Removed += s.expired
			s.expired = 0
		}
	}
	return true
}

// take removes a share of the entries and returns how many.
func (c *cohorts) take(share float64) float64 {
	gone := c.n * share
	if share >= 1 {
		c.n, c.scale, c.beyond = 0, 1, 0
		clear(c.expires)
		clear(c.moves)
		return gone
	}
	c.n -= gone
	if c.scale *= 1 - share; c.scale < 1e-100 {
		for i := range c.expires {
			c.expires[i] *= c.scale
		}
		for i := range c.moves {
			c.moves[i] *= c.scale
		}
		c.beyond *= c.scale
		c.scale = 1
	}
	return gone
}

// resume lets flows whose entries are gone send again, spread over the time between two packets.
func (s *simulation) resume(f *flow, n float64) {
	if f.back == nil {
		f.back = make([]float64, s.size)
	}
	over := max(1, min(s.size-s.tick-1, int(math.Round(f.Talks/s.dt))))
	for i := range over {
		f.back[min(s.tick+i, s.size-1)] += n / float64(over)
	}
}

// release returns the ports of entries that are gone.
func (s *simulation) release(f *flow, n float64) {
	if f.Pool > 0 {
		s.used[f.Pool-1] = max(0, s.used[f.Pool-1]-n)
	}
}

// age lets the entries of a stream expire, or move on to their next state.
func (s *simulation) age(stream int, now float64) {
	f := &s.flows[stream]
	for j := range f.states {
		c := &f.states[j]
		if gone := min(c.n, c.expires[s.tick]*c.scale); gone > 0 {
			c.n -= gone
			s.expired += gone
			s.release(f, gone)
		}
		c.expires[s.tick] = 0
		if c.moves == nil {
			continue
		}
		moved := min(c.n, c.moves[s.tick]*c.scale)
		c.moves[s.tick] = 0
		if moved > 0 {
			c.n -= moved
			s.enter(f, j+1, moved, now)
		}
	}
}

// enter puts entries into a state.
func (s *simulation) enter(f *flow, state int, n, now float64) {
	c, rule := &f.states[state], f.States[state]
	c.n += n
	last := state+1 == len(f.states)
	if len(rule.Spread) == 0 {
		s.schedule(c, rule, rule.Lasts, last, n, now)
		return
	}
	for _, lasts := range rule.Spread {
		s.schedule(c, rule, lasts, last, n/float64(len(rule.Spread)), now)
	}
}

// schedule notes when entries leave a state: to the next one when it has lasted, or by its timeout.
func (s *simulation) schedule(c *cohorts, rule State, lasts float64, last bool, n, now float64) {
	life, schedule := rule.Timeout, &c.expires
	if lasts > 0 && lasts < rule.Timeout && !last {
		if c.moves == nil {
			c.moves = make([]float64, s.size)
		}
		life, schedule = lasts, &c.moves
	}
	// The entries of a tick began in its middle on average; two ticks share them, so that the mean
	// is exact.
	at := (now + life - s.From) / s.dt
	if !(at < float64(s.size-1)) {
		c.beyond += n / c.scale
		return
	}
	first := int(at)
	part := at - float64(first)
	if first <= s.tick {
		first, part = s.tick, 1 // within the tick: it ends with the next one
	}
	(*schedule)[first] += n * (1 - part) / c.scale
	(*schedule)[first+1] += n * part / c.scale
}

// arrive offers the new flows of the tick to the table.
func (s *simulation) arrive(now float64) {
	total, passing, walks := 0.0, 0.0, 0.0
	for i := range s.flows {
		f := &s.flows[i]
		clear(f.arriving)
		for k := range f.retries {
			if f.retries[k] != nil {
				f.arriving[k+1], f.retries[k][s.tick] = f.retries[k][s.tick], 0
				s.waiting -= f.arriving[k+1]
			}
		}
		if !f.waits {
			begin, end := now-f.since, now+s.dt-f.since
			if s.tick == 0 {
				begin = math.Inf(-1)
			}
			f.arriving[0] = max(0, f.arrivals(end)-f.arrivals(begin))
		}
		if f.back != nil {
			f.arriving[0] += f.back[s.tick]
		}
		if f.untracked || len(f.states) == 0 && f.Refusal == Accepted {
			clear(f.arriving)
			continue
		}
		n := f.attempts()
		if n == 0 {
			continue
		}
		searched := f.Walks
		if searched == 0 {
			searched = 1
		}
		walks += n * searched
		if f.Refusal != Accepted {
			passing += n
			continue
		}
		s.Arrived += n
		s.Begun += f.arriving[0]
		n -= s.takeOver(i, now)
		n -= s.renew(f, n, now)
		n -= s.refuse(f, n)
		total += n
	}
	if walks > 0 && s.buckets > 0 && s.expired > 0 {
		s.free(s.expired * -math.Expm1(-2*walks/s.buckets))
	}
	if total+passing > 0 {
		s.admit(total, passing, now)
	}
}

func (f *flow) arrivals(t float64) float64 {
	if math.IsInf(t, -1) {
		return 0
	}
	return f.Arrivals(t)
}

// shrink takes n attempts from those of the tick, first those made before.
func (f *flow) shrink(n float64) {
	all := f.attempts()
	if all <= 0 {
		return
	}
	for k := range f.arriving {
		f.arriving[k] *= max(0, 1-n/all)
	}
}

// renew lets flows whose tuples all have entries take those over, the oldest first, and returns how
// many did.
func (s *simulation) renew(f *flow, n, now float64) float64 {
	if f.Tuples == 0 || f.Walk > 0 {
		return 0
	}
	have := 0.0
	for j := range f.states {
		have += f.states[j].n
	}
	over := min(n, max(0, have+n-float64(f.Tuples)))
	if over == 0 {
		return 0
	}
	s.Renewed += over
	f.shrink(over)
	last := len(f.states) - 1
	c := &f.states[last]
	left := min(over, c.n)
	f.oldest = max(f.oldest, s.tick+1)
	moved := 0.0
	for ; f.oldest < s.size && left > 1e-9; f.oldest++ {
		x := min(left, c.expires[f.oldest]*c.scale)
		c.expires[f.oldest] -= x / c.scale
		left -= x
		moved += x
		if left <= 1e-9 {
			break
		}
	}
	if moved > 0 {
		c.n -= moved
		s.enter(f, last, moved, now)
	}
	return over
}

// refuse refuses flows for which NAT has no port, and returns how many those are.
func (s *simulation) refuse(f *flow, n float64) float64 {
	if f.Pool == 0 {
		return 0
	}
	over := max(0, n-max(0, float64(s.Pools[f.Pool-1])-s.used[f.Pool-1]))
	if over > 0 {
		s.Refused += over
		s.Portless += f.arriving[0] * over / n
		s.drop(f, over/n)
		f.shrink(over)
	}
	s.used[f.Pool-1] += n - over
	return over
}
