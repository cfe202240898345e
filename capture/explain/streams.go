package explain

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"slices"

	"github.com/ctload/ctload/capture"
)

// End tells what becomes of the connections or flows of a stream, which decides the states of their
// entries.
type End string

// The ends.
const (
	EndClosed     End = "closed"      // both sides send FIN: TIME_WAIT
	EndReset      End = "reset"       // one side resets: CLOSE
	EndHalfClosed End = "half-closed" // one side never closes: CLOSE_WAIT
	EndHeld       End = "held"        // it stays: ESTABLISHED, or a stream of datagrams
	EndUnanswered End = "unanswered"  // SYN_SENT, or a datagram without an answer
	EndHalfOpen   End = "half-open"   // the third packet never comes: SYN_RECV
	EndAnswered   End = "answered"    // a datagram and its answer
	EndStream     End = "stream"      // datagrams to and fro for more than two seconds: ASSURED
	EndEcho       End = "echo"        // an echo request of ICMP
)

// Way is the way of a connection through the host.
type Way string

// The ways.
const (
	In      Way = "in"      // to the host
	Out     Way = "out"     // from the host
	Through Way = "through" // forwarded
)

// Stream is a part of the load that the entries tell of: connections or flows that are alike. Its
// entries are Rate x (Life + Timeout), or those that are held.
type Stream struct {
	Protocol string   `json:"protocol"` // tcp, udp, icmp
	Ports    []uint16 `json:"ports,omitempty"`
	End      End      `json:"end"`
	Way      Way      `json:"way"`
	// Heavy is the address of the one source that it comes from, where that has a large share of
	// the table.
	Heavy string `json:"heavy,omitempty"`
	// Rate counts new ones a second; 0 for those that are held.
	Rate float64 `json:"per_s,omitempty"`
	// Life is the mean time, in seconds, from the first packet to the last one.
	Life    float64 `json:"life_s,omitempty"`
	Timeout float64 `json:"timeout_s,omitempty"` // of the state after that
	Held    float64 `json:"held,omitempty"`      // connections that stay
	// Entries is the number of entries of the whole table that the stream stands for.
	Entries float64 `json:"entries"`
	Sources int     `json:"sources"` // different source addresses in the listing
	// Exponent is the exponent of Zipf's law over the sources; 0: they have about the same.
	Exponent float64 `json:"zipf,omitempty"`
}

// Traffic is the load that a table tells of.
type Traffic struct {
	Streams []Stream `json:"streams"`
	// IPv6 tells that most entries are of IPv6.
	IPv6 bool `json:"ipv6,omitempty"`
	// SourceNAT and DestinationNAT tell that most forwarded entries are translated.
	SourceNAT      bool `json:"source_nat,omitempty"`
	DestinationNAT bool `json:"destination_nat,omitempty"`
	// Host are the addresses of the host itself, Targets the destinations beyond it.
	Host    []netip.Addr `json:"-"`
	Sources []netip.Addr `json:"-"`
	Targets []netip.Addr `json:"-"`
	// Left counts entries that no stream stands for, by what they are.
	Left map[string]float64 `json:"left_out,omitempty"`
	// Full tells that the table is at its limit, so that the rates are lower bounds.
	Full bool `json:"full,omitempty"`
	// Assumed tells that nothing shows which part of the table the listing is: it is taken for all.
	Assumed bool `json:"assumed_whole,omitempty"`
	// Evicts tells that the kernel evicts entries; else a full table refuses packets.
	Evicts bool `json:"evicts,omitempty"`
}

// errNoSample tells why a capture has no traffic.
var errNoSample = errors.New("the capture has no listing of the table, or one of selected " +
	"entries: the load that made it is unknown. Save the whole of conntrack -L, or its first lines")

// FindTraffic finds the load that the entries of a capture tell of, by Little's law: the entries of
// a passing state are the rate times its timeout, and those of ESTABLISHED the rate times the mean
// life. Connections that both listings of a capture have, beyond those that such lives explain, are
// held; so are those that are silent for more than a minute.
func FindTraffic(c *capture.Capture) (*Traffic, error) {
	b := newBook(c)
	if b.sample.Entries == 0 || b.sample.Scope == capture.Selection {
		return nil, errNoSample
	}
	t := &Traffic{Left: map[string]float64{}, Full: b.full(), Assumed: b.sample.Factor == 0}
	if t.Assumed {
		b.sample.Factor = 1
	}
	t.Evicts = t.Full && slices.ContainsFunc(b.classes, func(c *class) bool { return c.truncated })
	if n := len(c.Counters); n > 1 {
		grown := func(name string) int64 {
			return c.Counters[n-1].Sum[name] - c.Counters[0].Sum[name]
		}
		t.Evicts = grown("early_drop") > grown("drop")
	}
	t.findAddresses(c)
	s := &sorter{book: b, traffic: t, heavy: b.heavySources()}
	s.sort()
	slices.SortStableFunc(t.Streams, func(x, y Stream) int {
		return cmp.Compare(y.Entries, x.Entries)
	})
	return t, nil
}

// sorter sorts entries into parts, each of which becomes some streams.
type sorter struct {
	*book
	traffic *Traffic
	heavy   []string
}

// part holds the entries of one protocol, service and way.
type part struct {
	protocol, heavy string
	way             Way
	port            uint16 // 0: the rare ones
	ports           map[uint16]int
	of              map[*class][]capture.Entry
}

type partKey struct {
	protocol, heavy string
	way             Way
	port            uint16
}

// rareShare is below which share of the entries services are not told apart.
const rareShare = 0.01

// sort makes the streams.
func (s *sorter) sort() {
	services := map[string]int{}
	for _, e := range s.c.Table.Entries {
		services[e.Protocol+e.Service()]++
	}
	parts := map[partKey]*part{}
	var order []*part
	for _, c := range s.classes {
		for _, e := range c.entries {
			k := partKey{protocol: e.Protocol, way: s.traffic.way(e)}
			if source := e.Original.Source.String(); slices.Contains(s.heavy, source) {
				k.heavy = source
			}
			n := float64(services[e.Protocol+e.Service()])
			if n >= rareShare*float64(s.sample.Entries) {
				k.port = e.Original.DestinationPort
			}
			p := parts[k]
			if p == nil {
				p = &part{protocol: k.protocol, heavy: k.heavy, way: k.way, port: k.port,
					ports: map[uint16]int{}, of: map[*class][]capture.Entry{}}
				parts[k], order = p, append(order, p)
			}
			p.ports[e.Original.DestinationPort]++
			p.of[c] = append(p.of[c], e)
		}
	}
	for _, p := range order {
		switch p.protocol {
		case "tcp":
			s.tcp(p)
		case "udp":
			s.udp(p)
		case "icmp", "icmpv6":
			for _, c := range s.classes {
				s.passing(p, c, EndEcho, 0)
			}
		default:
			for _, entries := range p.of {
				s.leave(p.protocol, len(entries))
			}
		}
	}
}

// leave counts entries that no stream stands for.
func (s *sorter) leave(what string, n int) {
	if n > 0 {
		s.traffic.Left[what] += float64(n) * s.sample.Factor
	}
}

// rate returns how many entries of a class come a second, for n of its entries.
func (s *sorter) rate(c *class, n int) float64 {
	switch {
	case n == 0 || c.timeout == 0:
		return 0
	case c.truncated:
		return s.arriving(c, s.sample.Factor) * float64(n) / float64(len(c.entries))
	}
	return float64(n) * s.sample.Factor / c.timeout
}

// passing adds the stream of a state that entries only pass through.
func (s *sorter) passing(p *part, c *class, end End, life float64) {
	entries := p.of[c]
	if rate := s.rate(c, len(entries)); rate > 0 {
		s.add(p, entries, Stream{
			End: end, Rate: rate, Life: life, Timeout: c.timeout,
			Entries: float64(len(entries))*s.sample.Factor + rate*life,
		})
	}
}

// mostPorts bounds the ports of a stream of rare services.
const mostPorts = 16

// add completes a stream by its ports and sources, and keeps it.
func (s *sorter) add(p *part, entries []capture.Entry, x Stream) {
	x.Protocol, x.Way, x.Heavy = p.protocol, p.way, p.heavy
	if x.Protocol == "icmpv6" {
		x.Protocol = "icmp"
	}
	switch {
	case p.port != 0:
		x.Ports = []uint16{p.port}
	case x.Protocol != "icmp":
		for port := range p.ports {
			x.Ports = append(x.Ports, port)
		}
		slices.SortFunc(x.Ports, func(a, b uint16) int {
			return cmp.Or(cmp.Compare(p.ports[b], p.ports[a]), cmp.Compare(a, b))
		})
		x.Ports = x.Ports[:min(len(x.Ports), mostPorts)]
		slices.Sort(x.Ports)
	}
	counts := map[netip.Addr]int{}
	for _, e := range entries {
		counts[e.Original.Source]++
	}
	x.Sources = len(counts)
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	x.Exponent = exponent(len(counts), most, len(entries))
	s.traffic.Streams = append(s.traffic.Streams, x)
}

// exponent returns the exponent of Zipf's law by which the first of some sources has as many of the
// entries as it has; 0 where that is within chance of an equal share.
func exponent(sources, most, all int) float64 {
	if sources < 5 || all < 10 {
		return 0
	}
	even := float64(all) / float64(sources)
	if float64(most) < even+4*math.Sqrt(even)+3 {
		return 0
	}
	share := float64(most) / float64(all)
	low, high := 0.0, 5.0
	for range 40 {
		middle := (low + high) / 2
		sum := 0.0
		for k := 1; k <= sources; k++ {
			sum += math.Pow(float64(k), -middle)
		}
		if 1/sum < share {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Round(low*100) / 100
}

// ends are the passing states of TCP that a load can leave entries in.
var ends = map[string]End{
	"TIME_WAIT": EndClosed, "CLOSE": EndReset, "CLOSE_WAIT": EndHalfClosed,
	"SYN_SENT": EndUnanswered, "SYN_RECV": EndHalfOpen,
}

// tcp makes the streams of connections to one service.
func (s *sorter) tcp(p *part) {
	var established []capture.Entry
	finished := 0.0
	for class, entries := range p.of {
		switch class.state {
		case "ESTABLISHED":
			established = append(established, entries...)
		case "TIME_WAIT", "CLOSE", "CLOSE_WAIT":
			finished += s.rate(class, len(entries))
		}
	}
	pass, held := s.divide(established, finished)
	life := 0.0
	if finished > 0 {
		life = pass / finished
	}
	for _, class := range s.classes {
		end, known := ends[class.state]
		switch {
		case len(p.of[class]) == 0, class.state == "ESTABLISHED":
		case !known:
			s.leave(class.state, len(p.of[class]))
		case end == EndUnanswered, end == EndHalfOpen:
			s.passing(p, class, end, 0)
		default:
			s.passing(p, class, end, life)
		}
	}
	if held >= 0.5 {
		s.add(p, established, Stream{End: EndHeld, Held: held, Entries: held})
	}
}

// silentFor is after how many seconds without a packet a connection counts as held.
const silentFor = 60

// divide tells the established connections of the whole table that pass, and will end, from those
// that stay. finished counts the connections that end each second. Where a capture has two
// listings, D seconds apart, H held and P passing connections with the mean life P/finished leave
// H + P exp(-D finished/P) of the first in the second.
func (s *sorter) divide(entries []capture.Entry, finished float64) (pass, held float64) {
	factor := s.sample.Factor
	alive, stay, gone := 0.0, 0.0, 0.0
	for _, e := range entries {
		class := s.classOf(e)
		age, known := class.age(e)
		switch {
		case e.Offloaded, known && age > silentFor && class.timeout > 5*silentFor:
			held += factor
			continue
		case e.Stays:
			stay++
		case e.Gone:
			gone++
		}
		alive += factor
	}
	if finished == 0 {
		return 0, held + alive
	}
	between := s.c.Table.Between
	if between == 0 || stay+gone == 0 {
		return alive, held
	}
	ended := func(pass float64) float64 { return pass * -math.Expm1(-between*finished/pass) }
	left := alive * gone / (stay + gone)
	if left >= ended(alive) {
		return alive, held
	}
	low, high := 0.0, alive
	for range 50 {
		if middle := (low + high) / 2; ended(middle) < left {
			low = middle
		} else {
			high = middle
		}
	}
	return high, held + alive - high
}

// classOf returns the class of an entry.
func (s *sorter) classOf(e capture.Entry) *class {
	i := slices.IndexFunc(s.classes, func(c *class) bool {
		return c.protocol == e.Protocol && c.state == e.State && c.kind == e.Kind() &&
			c.key == timeoutKey(e)
	})
	return s.classes[i]
}

const (
	// youngFor is the time, in seconds, before a conversation is ASSURED: until the first datagram
	// after two seconds (nf_conntrack_proto_udp.c).
	youngFor = 2.5
	// streamLife is the shortest life of a stream, in seconds.
	streamLife = 3
)

// udp makes the streams of flows to one service.
func (s *sorter) udp(p *part) {
	young := 0.0 // conversations that will be ASSURED
	for _, class := range s.classes {
		if entries := p.of[class]; len(entries) > 0 && class.assured() {
			young += s.streamed(p, class, entries) * youngFor
		}
	}
	for _, class := range s.classes {
		entries := p.of[class]
		switch {
		case len(entries) == 0, class.assured():
		case class.kind == capture.Unreplied:
			s.passing(p, class, EndUnanswered, 0)
		default:
			rest := len(entries) - int(math.Round(young/s.sample.Factor))
			p.of[class] = entries[:max(0, rest)]
			s.passing(p, class, EndAnswered, 0)
		}
	}
}

// streamed makes the streams of flows that are ASSURED, and returns how many begin each second.
// Flows that have ended lie evenly over the ages up to the timeout; the older three quarters of
// these ages are theirs alone.
func (s *sorter) streamed(p *part, c *class, entries []capture.Entry) (rate float64) {
	old, from := 0, c.timeout/4
	for _, e := range entries {
		if age, known := c.age(e); known && age > from {
			old++
		}
	}
	all := float64(len(entries)) * s.sample.Factor
	if c.timeout > 0 {
		rate = float64(old) * s.sample.Factor / (c.timeout - from)
	}
	active := all - rate*c.timeout
	stream := Stream{End: EndStream, Rate: rate, Life: streamLife, Timeout: c.timeout, Entries: all}
	switch {
	case rate > 0 && active/rate <= c.timeout:
		stream.Life = max(active/rate+youngFor, streamLife)
	case rate > 0: // some end, and most go on for long
		held := active - rate*(streamLife-youngFor)
		stream.Entries = all - held
		s.add(p, entries, Stream{End: EndHeld, Held: held, Entries: held})
	default:
		s.add(p, entries, Stream{End: EndHeld, Held: all, Entries: all})
		return 0
	}
	stream.Rate = stream.Entries / (c.timeout + stream.Life - youngFor)
	s.add(p, entries, stream)
	return stream.Rate
}
