package replay

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/scenarios"
)

const (
	// mostStreams bounds the entries of a workload, mostHeavy the nodes of heavy sources.
	mostStreams, mostHeavy = 16, 3
	// mostSources limits the addresses that a client itself has, mostStrangers the sources of
	// crafted packets.
	mostSources, mostStrangers = 4096, 60000
	// portsOfSource limits the connections from one source address to one port.
	portsOfSource = 16000
	// socketRests is the time, in seconds, that a socket of the client keeps its port after the
	// end.
	socketRests = 60
)

// choose chooses the streams that are replayed, and gives heavy sources nodes of their own.
func (m *maker) choose() {
	m.heavy = map[string]string{}
	h := &m.draft.Head
	h.Topology.Kind = scenarios.Server
	h.Topology.Families = []scenarios.Family{m.family()}
	h.Topology.Clients = 1
	all, small := 0.0, 0.0
	for _, s := range m.traffic.Streams {
		all += s.Entries
	}
	for _, s := range m.traffic.Streams {
		if s.Entries < all/1000 || s.Entries/m.scale < 0.5 || len(m.streams) == mostStreams {
			small += s.Entries
			continue
		}
		m.streams = append(m.streams, s)
		if s.Way != explain.In {
			h.Topology.Kind = scenarios.Router
		}
		if _, known := m.heavy[s.Heavy]; s.Heavy != "" && !known && len(m.heavy) < mostHeavy {
			h.Topology.Clients++
			m.heavy[s.Heavy] = fmt.Sprint("client", h.Topology.Clients)
		}
	}
	if small > 0 {
		m.note("%.0f entries of rare kinds are left out", small)
	}
	for _, what := range slices.Sorted(maps.Keys(m.traffic.Left)) {
		m.note("%.0f entries are left out that no generator makes: %s", m.traffic.Left[what], what)
	}
}

// workload makes an entry of each stream.
func (m *maker) workload() {
	list := m.streams
	raise := m.raise(list)
	m.length = m.lengthOf(list)
	programs := newPrograms()
	for _, s := range list {
		e := m.entry(s, raise)
		e.Ports = programs.place(s, e)
		if moved := programs.moved; moved != "" {
			m.note("%s", moved)
		}
		m.draft.Workload = append(m.draft.Workload, e)
		m.living += m.livingOf(e, s)
	}
	const manyPerSecond = 5000
	total := 0.0
	for _, e := range m.draft.Workload {
		total += float64(e.Rate)
	}
	if total > manyPerSecond {
		m.note("the load begins %.0f connections and flows a second: --scale %.0f makes it one "+
			"for a small lab", total, math.Ceil(total/manyPerSecond*m.scale))
	}
	m.draft.Recovery = scenarios.Recovery{AtMost: scenarios.DefaultRecovery}
}

// livingOf returns the entries that an entry of the workload holds in its steady state.
func (m *maker) livingOf(e scenarios.Entry, s explain.Stream) float64 {
	if s.End == explain.EndHeld {
		return float64(e.Number())
	}
	return float64(e.Rate) * (s.Life + s.Timeout) / m.faster
}

// raise returns the factor for the rates of a full table that refuses packets: the refused ones are
// not in it.
func (m *maker) raise(list []explain.Stream) float64 {
	if !m.traffic.Full || m.traffic.Evicts {
		return 1
	}
	const least, tries = 0.1, 3 // a client sends its SYN three times in ten seconds
	admitted, refused := 0.0, 0.0
	for _, s := range list {
		admitted += s.Rate
	}
	for _, c := range m.x.Counters {
		if c.Name == "drop" && c.PerSecond != nil {
			refused = *c.PerSecond / tries
		}
	}
	share := least
	if admitted > 0 {
		share = max(share, refused/admitted)
	}
	m.note("the table was at its limit: what was refused is not in it. The rates are raised by "+
		"%.0f %%, so that the replay meets the limit too", share*100)
	return 1 + share
}

const (
	// shortest and longest bound the length of the load, in seconds.
	shortest, longest = 10, 1800
	// settled is after how many times a life nearly all that began has ended.
	settled = 3
)

// lengthOf returns how many seconds the load lasts: until every state is in its steady state.
func (m *maker) lengthOf(list []explain.Stream) float64 {
	need := 0.0
	for _, s := range list {
		if s.Rate > 0 {
			need = max(need, (settled*s.Life+s.Timeout)*1.25/m.faster)
		}
	}
	need = max(shortest, need+5)
	if need > longest {
		m.note("a steady state takes %.0f s, of which the load lasts %d: --faster %.0f shortens it",
			need, longest, math.Ceil(need/600))
		need = longest
	}
	return math.Ceil(need)
}

// seconds returns a duration of the language.
func seconds(s float64) scenarios.Duration {
	const millisecond = 1e6
	return scenarios.Duration(math.Round(s*1000) * millisecond)
}

// entry makes the entry of a stream.
func (m *maker) entry(s explain.Stream, raise float64) scenarios.Entry {
	life := s.Life / m.faster
	e := scenarios.Entry{
		Name: m.name(s), Rate: number(s.Rate / m.scale * m.faster * raise),
		Arrivals: scenarios.Poisson, Duration: seconds(m.length),
	}
	const shortLife = 0.02
	switch s.End {
	case explain.EndClosed, explain.EndReset, explain.EndHalfClosed:
		e.Generator = scenarios.TCP
		e.Close = map[explain.End]scenarios.Close{
			explain.EndReset: scenarios.CloseRST, explain.EndHalfClosed: scenarios.CloseHalf,
		}[s.End]
		if life >= shortLife {
			e.Lifetime = scenarios.Lifetime{Shape: scenarios.Exponential, Mean: seconds(life)}
		}
	case explain.EndHalfOpen:
		e.Generator, e.Role = scenarios.SYN, scenarios.Hostile
	case explain.EndEcho:
		e.Generator = scenarios.ICMP
	case explain.EndAnswered:
		e.Generator = scenarios.UDP
	case explain.EndStream:
		e.Generator = scenarios.UDP
		e.Lifetime = scenarios.Lifetime{Shape: scenarios.Fixed, Mean: seconds(s.Life)}
		e.Interval = m.interval(s.Life / 20)
	case explain.EndUnanswered:
		if e.Generator = scenarios.UDP; s.Protocol == "tcp" {
			e.Generator, e.Role = scenarios.SYN, scenarios.Hostile
			e.Listener = scenarios.ListenerFull
		} else {
			e.Silent = true
		}
	case explain.EndHeld:
		m.held(&e, s)
	}
	m.ends(&e, s)
	m.sources(&e, s)
	return e
}

// held completes the entry of connections or flows that stay until the load ends.
func (m *maker) held(e *scenarios.Entry, s explain.Stream) {
	n := m.scaled(s.Held)
	fill := max(2, min(m.length/5, 30)) // seconds until all are there
	e.Arrivals, e.Rate = "", number(math.Ceil(float64(n)/fill))
	if s.Protocol == "tcp" {
		e.Generator, e.Connections = scenarios.Hold, scenarios.Count(n)
		e.Duration = seconds(max(1, m.length-fill))
		return
	}
	e.Generator, e.Flows, e.Duration = scenarios.UDP, scenarios.Count(n), 0
	e.Lifetime = scenarios.Lifetime{Shape: scenarios.Fixed, Mean: seconds(m.length)}
	e.Interval = m.interval(longestInterval)
}

const (
	// shortestInterval and longestInterval bound the seconds between two datagrams of a flow.
	shortestInterval, longestInterval = 0.5, 5
	// early is into how many intervals a timeout is divided, so that datagrams come before it ends
	// and after the two seconds that make an entry ASSURED.
	early = 3
)

// interval returns the time between two datagrams of a flow, near to some seconds: its entry must
// not expire meanwhile, neither before it is ASSURED nor after.
func (m *maker) interval(near float64) scenarios.Duration {
	timeout := min(m.timeout(kernels.Prefix+"udp_timeout"),
		m.timeout(kernels.Prefix+"udp_timeout_stream"))
	most := min(longestInterval, float64(timeout)/early)
	return seconds(max(shortestInterval, min(max(near, 1), most)))
}

// name names an entry by protocol, port and end.
func (m *maker) name(s explain.Stream) string {
	words := []string{s.Protocol}
	switch {
	case len(s.Ports) == 1:
		words = append(words, fmt.Sprint(s.Ports[0]))
	case len(s.Ports) > 1:
		words = append(words, "others")
	}
	words = append(words, string(s.End))
	if s.Way == explain.Out {
		words = append(words, "out")
	}
	if node := m.heavy[s.Heavy]; node != "" {
		words = append(words, node)
	}
	name := strings.Join(words, "-")
	for n := 2; slices.ContainsFunc(m.draft.Workload, func(e scenarios.Entry) bool {
		return e.Name == name
	}); n++ {
		name = strings.Join(append(slices.Clone(words), fmt.Sprint(n)), "-")
	}
	return name
}

// ends chooses the nodes of an entry.
func (m *maker) ends(e *scenarios.Entry, s explain.Stream) {
	if m.draft.Topology.Kind == scenarios.Server {
		if node := m.heavy[s.Heavy]; node != "" {
			e.From = node
		}
		return
	}
	if s.Way == explain.In {
		e.Target = "dut"
	}
	crafts := e.Generator.Fact().Crafted || e.Generator == scenarios.ICMP
	switch node := m.heavy[s.Heavy]; {
	case s.Way == explain.Out && !crafts && s.Entries/m.scale <= portsOfSource:
		e.From, e.Target = "dut", "server"
	case s.Way == explain.Out:
		m.note("%s comes from the client: the DUT has one address, and crafts no packets", e.Name)
	case node != "":
		e.From = node
	}
}

// sources gives an entry as many source addresses as the stream has, and enough for its ports.
func (m *maker) sources(e *scenarios.Entry, s explain.Stream) {
	if e.From == "dut" {
		return
	}
	most := mostSources
	if e.Generator.Fact().Crafted {
		most = mostStrangers
	}
	rests := max((s.Life+s.Timeout)/m.faster, socketRests)
	need := int(math.Ceil(max(float64(e.Rate)*rests, float64(e.Number())) / portsOfSource *
		float64(len(m.streams))))
	n := s.Sources
	if s.Heavy != "" && m.heavy[s.Heavy] != "" {
		n = 1
	}
	n = min(max(n, need, 1), most)
	if n > 1 {
		e.Sources.Count = scenarios.Count(n)
	}
	if n > 4 && s.Exponent > 0 && need <= s.Sources/10+1 {
		e.Sources.Weights = scenarios.Weights(s.Exponent)
	}
}

// programs keeps what answers at each port.
type programs struct {
	taken map[string]string // what answers, by transport, target and port
	moved string            // the last stream that was moved to other ports
}

func newPrograms() *programs { return &programs{taken: map[string]string{}} }

// place returns the ports of an entry: the stream's, unless another program answers there.
func (p *programs) place(s explain.Stream, e scenarios.Entry) (ports scenarios.Ports) {
	p.moved = ""
	answer := "any"
	switch {
	case len(s.Ports) == 0:
		return nil
	case e.Listener == scenarios.ListenerFull:
		answer = "full"
	case e.Silent:
		answer = "silent"
	case e.Close == scenarios.CloseHalf:
		answer = "half"
	}
	const step = 7000
	for _, port := range s.Ports {
		given := max(port, 1)
		for at := given; ; at = 1024 + (at+step)%60000 {
			key := fmt.Sprint(e.Transport(), e.Target, at)
			if has := p.taken[key]; has == "" || has == answer {
				p.taken[key] = answer
				ports = append(ports, scenarios.PortRange{
					First: scenarios.Port(at), Last: scenarios.Port(at)})
				if at != given {
					p.moved = fmt.Sprintf("%s goes to port %d instead of %d, where another "+
						"program answers", e.Name, at, given)
				}
				break
			}
		}
	}
	return ports
}
