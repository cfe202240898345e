package scenarios

import (
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// The keys that go with each generator and probe, beside those that go with all of them.
var (
	entryCommon   = []string{"name", "from", "target"}
	generatorKeys = map[Generator][]string{
		HTTP:      {"requests", "duration", "concurrency", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "timeout", "close", "keep-alive", "payload", "listener"},
		TCP:       {"connections", "duration", "concurrency", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "timeout", "close", "payload", "at-once", "listener"},
		Hold:      {"connections", "duration", "concurrency", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "timeout", "close", "payload", "interval", "listener"},
		UDP:       {"flows", "duration", "concurrency", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "timeout", "payload", "packets", "at-once", "silent", "crafted", "listener"},
		SYN:       {"flows", "duration", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "listener"},
		Handshake: {"flows", "duration", "rate", "stages", "burst", "sine", "ports", "sources", "source-ports", "timeout", "close", "listener"},
		ICMP:      {"flows", "duration", "rate", "stages", "burst", "sine", "sources", "timeout", "payload"},
	}
	probeKeys = map[Probe][]string{
		ProbeTCP:  {"port", "rate", "timeout"},
		ProbeUDP:  {"port", "rate", "timeout"},
		ProbeICMP: {"rate", "timeout"},
	}
	generatorCloses = map[Generator][]Close{
		HTTP:      {CloseFIN, CloseRST},
		TCP:       {CloseFIN, CloseRST, CloseAbandon, CloseHalf},
		Hold:      {CloseFIN, CloseRST, CloseAbandon, CloseHalf},
		Handshake: {CloseFIN, CloseRST, CloseAbandon},
	}
	counts = []string{"requests", "connections", "flows"}
)

// checkEntry checks an entry of the workload.
func checkEntry(p *problems, n *node, e *Entry, topology Topology) {
	if n.kind != mapping {
		return // reported by decode
	}
	generator, probe := n.get("generator"), n.get("probe")
	switch {
	case generator == nil && probe == nil:
		p.errorf(n.at, "an entry of the workload needs generator: %s, or probe: %s", strings.Join(Generator("").Words(), "|"), strings.Join(Probe("").Words(), "|"))
		return
	case generator != nil && probe != nil:
		p.errorf(probe.at, "an entry is a generator or a probe, not both; write two entries")
		return
	case e.Generator == "" && e.Probe == "":
		return // an invalid word, reported by decode
	}
	checkKeys(p, n, e)
	if e.Generator != "" {
		checkGenerator(p, n, e, topology)
	} else {
		checkProbe(p, n, e)
	}
	checkNodes(p, n, e, topology)
	p.require(!n.has("timeout") || e.Timeout > 0, n.place("timeout"),
		"timeout must be more than 0s")
}

// keys returns all keys that go with the kind of an entry.
func (e Entry) keys() []string {
	if e.Probe != "" {
		return slices.Concat([]string{"probe"}, entryCommon, probeKeys[e.Probe])
	}
	return slices.Concat([]string{"generator"}, entryCommon, []string{"phase", "start"},
		generatorKeys[e.Generator])
}

// checkKeys reports keys that exist but mean nothing for this generator or probe.
func checkKeys(p *problems, n *node, e *Entry) {
	what, valid := "generator: "+string(e.Generator), e.keys()
	if e.Probe != "" {
		what = "probe: " + string(e.Probe)
	}
	for _, key := range n.entries {
		if !slices.Contains(valid, key.key) && slices.Contains(entryFields, key.key) {
			p.errorf(key.at, "%s does not go with %s%s",
				quote(key.key), what, insteadOf(key.key, valid))
		}
	}
}

// insteadOf returns the right key where two keys do the same for different kinds.
func insteadOf(key string, valid []string) string {
	for _, same := range [][]string{counts, {"port", "ports"}} {
		if slices.Contains(same, key) {
			return spelling.Meant(shared(same, valid))
		}
	}
	return ""
}

func checkGenerator(p *problems, n *node, e *Entry, topology Topology) {
	for _, key := range append([]string{"duration", "concurrency", "rate", "sources", "packets"}, counts...) {
		zero := fieldByKey(reflect.ValueOf(e).Elem(), key).IsZero()
		p.require(!n.has(key) || !zero, n.place(key), "%s must be more than 0", key)
	}
	count := shared(counts, generatorKeys[e.Generator])
	if !n.has(count, "duration", "stages", "phase") {
		p.errorf(n.at, "%s needs %s, duration or stages", e.Generator, count)
	}
	if e.Generator == Hold && n.get(count) == nil {
		p.errorf(n.at, "hold needs connections")
	}
	if duration := n.get("duration"); duration != nil && n.get("stages") != nil {
		p.errorf(duration.at, "the stages say how long the load lasts; duration does not go with them")
	}
	checkLoop(p, n, e)
	checkProfiles(p, n, e)
	if close := n.get("close"); close != nil && e.Close != "" {
		if valid := generatorCloses[e.Generator]; len(valid) > 0 && !slices.Contains(valid, e.Close) {
			p.errorf(close.at, "close: %s does not go with generator: %s; valid there: %s",
				e.Close, e.Generator, strings.Join(words(valid...), ", "))
		}
	}
	if e.KeepAlive && e.Concurrency == 0 && n.get("keep-alive") != nil {
		p.errorf(n.get("keep-alive").at, "keep-alive needs concurrency: the number of connections that are kept")
	}
	if e.Payload > 1<<20 {
		p.errorf(n.get("payload").at, "payload must be at most %s", Size(1<<20))
	}
	if most := mostDatagram(topology); (e.Generator == UDP || e.Generator == ICMP) && e.Payload > most {
		p.errorf(n.get("payload").at, "a datagram of more than %s is fragmented; the payload of %s is at most that", most, e.Generator)
	}
	checkUnanswered(p, n, e)
	checkAtOnce(p, n, e)
	p.require(!n.has("interval") || e.Interval > 0 && e.Payload > 0, n.place("interval"),
		"interval must be more than 0s, and needs a payload to send")
	if e.Sources > 60000 {
		p.errorf(n.get("sources").at, "at most 60000 source addresses")
	}
}

// mostDatagram returns the largest payload of a datagram or an echo request that fits into a frame.
func mostDatagram(topology Topology) Size {
	const frame, ip, ip6, header = 1500, 20, 40, 8
	if slices.Contains(topology.Families, IPv6) {
		return frame - ip6 - header
	}
	return frame - ip - header
}

// checkUnanswered refuses keys that wait for an answer to datagrams that get none, or whose sender
// cannot receive it.
func checkUnanswered(p *problems, n *node, e *Entry) {
	why := "silent"
	if e.Crafted {
		why = "crafted"
	}
	if !e.Silent && !e.Crafted {
		return
	}
	if packets := n.get("packets"); packets != nil && e.Packets > 1 {
		p.errorf(packets.at, "packets does not go with %s: each datagram of a flow is sent when the one before was answered", why)
	}
	if concurrency := n.get("concurrency"); concurrency != nil {
		p.errorf(concurrency.at, "concurrency does not go with %s: the next flow begins when one was answered; a rate does not wait", why)
	}
}

// mostAtOnce bounds at-once: each of them has a thread.
const mostAtOnce = 16

func checkAtOnce(p *problems, n *node, e *Entry) {
	at := n.get("at-once")
	switch {
	case at == nil || p.failed(at.at):
	case e.AtOnce < 1 || e.AtOnce > mostAtOnce:
		p.errorf(at.at, "at-once must be 1 to %d", mostAtOnce)
	case e.Crafted && e.AtOnce > 1:
		p.errorf(at.at, "at-once does not go with crafted: datagrams race each other through the socket that they share")
	case e.Generator == TCP && len(e.Ports.Expand()) < int(e.AtOnce):
		p.errorf(at.at, "%d connections at once from one source port need as many ports to go to", e.AtOnce)
	}
}

// checkLoop checks how fast a generator goes: closed loop or open loop, not both.
func checkLoop(p *problems, n *node, e *Entry) {
	given := slices.DeleteFunc(slices.Clone(loops), func(key string) bool { return !n.has(key) })
	switch {
	case len(given) > 1:
		p.errorf(n.keyPlace(given[1]), "%s and %s at once: concurrency is a closed loop, "+
			"rate, stages, burst and sine are open ones", given[0], given[1])
	case len(given) == 0 && e.Generator != Hold:
		need := "rate, stages, burst or sine (open loop)"
		if slices.Contains(generatorKeys[e.Generator], "concurrency") {
			need = "concurrency (closed loop), or rate, stages, burst or sine (open loop)"
		}
		p.errorf(n.at, "%s needs %s", e.Generator, need)
	}
	if stages := n.get("stages"); stages != nil && stages.kind == list {
		if len(stages.items) == 0 {
			p.errorf(stages.at, "stages is an empty list")
		}
		for i, stage := range e.Stages {
			at := stages.items[i]
			if at.kind != mapping {
				continue
			}
			if duration := at.get("duration"); stage.Duration <= 0 && (duration == nil || !p.failed(duration.at)) {
				p.errorf(at.at, "a stage needs a duration")
			}
			if at.get("rate") == nil {
				p.errorf(at.at, "a stage needs a rate")
			}
		}
	}
}

// checkProfiles checks burst and sine, the profiles that are no list.
func checkProfiles(p *problems, n *node, e *Entry) {
	sound := func(at *node) bool {
		return at.kind == mapping && !slices.ContainsFunc(at.entries, func(e entry) bool { return p.failed(e.value.at) })
	}
	if at := n.get("burst"); e.Burst != nil && sound(at) && (e.Burst.Size <= 0 || e.Burst.Every <= 0) {
		p.errorf(at.at, "a burst needs size and every: burst: {size: 500, every: 1s}")
	}
	at := n.get("sine")
	if e.Sine == nil || !sound(at) {
		return
	}
	switch s := e.Sine; {
	case s.Mean <= 0 || s.Period <= 0:
		p.errorf(at.at, "a sine needs mean and period: sine: {mean: 1000/s, amplitude: 800/s, period: 30s}")
	case s.Amplitude > s.Mean:
		p.errorf(n.get("sine").place("amplitude"), "the amplitude of a sine must be at most its mean: the rate would fall below 0")
	}
}

func checkProbe(p *problems, n *node, e *Entry) {
	if e.Probe != ProbeICMP && n.get("port") == nil {
		p.errorf(n.at, "the probe needs a port, as 22 for what an ssh login would see")
	}
	switch rate := n.get("rate"); {
	case rate == nil:
		p.errorf(n.at, "the probe needs a rate, as 10/s")
	case !p.failed(rate.at) && (e.Rate <= 0 || e.Rate > 1000):
		p.errorf(rate.at, "the rate of a probe must be more than 0/s and at most 1000/s: a probe is a bystander, not load")
	}
}

// entryFields are all keys of an entry; decode reports any other key.
var entryFields = fieldKeys(reflect.TypeFor[Entry]())
