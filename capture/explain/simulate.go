package explain

import (
	"math"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
)

// Simulated is what a simulation of the table counts in its steady state: expired entries that the
// collector has not freed yet are in the count.
type Simulated struct {
	// Least and Most bound the highest count, by the moments at which the collector comes.
	Least int64 `json:"peak_least"`
	Most  int64 `json:"peak_most"`
	// RefusedPerSecond counts the packets that the kernel refuses each second.
	RefusedPerSecond float64 `json:"refused_per_s,omitempty"`
	// EvictedPerSecond counts the entries that the kernel evicts each second.
	EvictedPerSecond float64 `json:"evicted_per_s,omitempty"`
}

const (
	// collectorTime is the longest time, in seconds, between two visits of the collector to a table
	// with room; settledAfter is after how many lives nearly all entries that began have ended.
	collectorTime, settledAfter = 60, 4
	// longestSimulated bounds the simulated time, in seconds.
	longestSimulated = 4 * 3600
)

// simulate returns the count that the load of the table leaves under changed timeouts, by key, and
// another size; nil where the load is unknown or does not settle.
func (b *book) simulate(t *Traffic, timeouts map[string]float64, limit int64) *Simulated {
	buckets := b.c.Sizes.Buckets
	if t == nil || t.Assumed || limit <= 0 || buckets == nil || *buckets <= 0 {
		return nil
	}
	in := occupancy.Input{Max: limit, Buckets: *buckets, Held: -b.expiring(timeouts)}
	if own := b.c.Sizes.Max; own != nil && limit > *own {
		in.Buckets = int64(float64(*buckets) * float64(limit) / float64(*own))
	}
	for _, left := range t.Left {
		in.Held += left
	}
	settled := 0.0
	for _, s := range t.alike() {
		if s.End == EndHeld {
			in.Held += s.Held
			continue
		}
		states := s.states(timeouts)
		settled = max(settled, settledAfter*s.Life+states[len(states)-1].Timeout)
		in.Streams = append(in.Streams, occupancy.Stream{
			States:   states,
			Arrivals: func(at float64) float64 { return s.Rate * max(0, at) },
		})
	}
	in.Held = max(0, in.Held)
	if settled > longestSimulated {
		return nil
	}
	in.Until = settled + 2*collectorTime
	const phases = 4 // of the collector, whose moment is unknown
	x := &Simulated{Least: math.MaxInt64}
	for i := range phases {
		r := occupancy.At(in, collectorTime*(float64(i)+0.5)/phases)
		x.Least, x.Most = min(x.Least, round(r.Peak)), max(x.Most, round(r.Peak))
		if since := in.Until - r.FullAt; since > 0 { // no more than that is refused for the table
			x.RefusedPerSecond = max(x.RefusedPerSecond, r.Drop/since)
			x.EvictedPerSecond = max(x.EvictedPerSecond, r.EarlyDrop/since)
		}
		if r.Collected == 0 && r.Drop == 0 {
			break // the collector has nothing to do at any moment
		}
	}
	return x
}

// expiring returns how many established connections a timeout removes, which the load counts as
// held.
func (b *book) expiring(timeouts map[string]float64) float64 {
	const key = kernels.Prefix + "tcp_timeout_established"
	value, changed := timeouts[key]
	if !changed {
		return 0
	}
	return b.stayAll(nil, b.sample.Factor) - b.stay(key, value, b.sample.Factor)
}

// alike returns the streams with those of one end in one: a table does not care about ports.
func (t *Traffic) alike() (list []Stream) {
	type kind struct {
		protocol string
		end      End
		timeout  float64
	}
	at := map[kind]int{}
	for _, s := range t.Streams {
		k := kind{s.Protocol, s.End, s.Timeout}
		i, known := at[k]
		if !known {
			at[k], list = len(list), append(list, s)
			continue
		}
		all := &list[i]
		if rate := all.Rate + s.Rate; rate > 0 {
			all.Life = (all.Life*all.Rate + s.Life*s.Rate) / rate
		}
		all.Rate, all.Held = all.Rate+s.Rate, all.Held+s.Held
	}
	return list
}

// lasts names the timeout of the state in which the flows of a stream end, and the class that it
// gives their entries.
func (s Stream) lasts() (key string, class occupancy.Class) {
	switch s.End {
	case EndClosed:
		return "tcp_timeout_time_wait", occupancy.Closing
	case EndReset:
		return "tcp_timeout_close", occupancy.Closing
	case EndHalfClosed:
		return "tcp_timeout_close_wait", occupancy.Closing
	case EndHalfOpen:
		return "tcp_timeout_syn_recv", occupancy.Evictable
	case EndStream:
		return "udp_timeout_stream", occupancy.Kept
	case EndEcho:
		return s.Protocol + "_timeout", occupancy.Evictable
	}
	if s.Protocol == "tcp" {
		return "tcp_timeout_syn_sent", occupancy.Evictable
	}
	return "udp_timeout", occupancy.Evictable
}

// states returns the states of the stream's entries.
func (s Stream) states(timeouts map[string]float64) (list []occupancy.State) {
	key, class := s.lasts()
	timeout, changed := timeouts[kernels.Prefix+key]
	if !changed {
		timeout = s.Timeout
	}
	if s.Life > 0 {
		first := occupancy.State{Timeout: math.Inf(1), Lasts: s.Life, Class: occupancy.Kept}
		if s.Protocol == "udp" {
			first.Class = occupancy.Evictable
		}
		list = append(list, first)
	}
	return append(list, occupancy.State{Timeout: timeout, Class: class})
}
