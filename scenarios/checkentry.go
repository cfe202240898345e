package scenarios

import (
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// The keys that go with several generators, and those of each probe.
var (
	entryCommon     = []string{"name", "from", "target"}
	generatorCommon = []string{
		"generator", "phase", "role", "start", "duration", "rate", "stages", "burst", "sine",
		"arrivals", "slack", "sources",
	}
	portKeys   = []string{"ports", "source-ports", "listener"}
	socketKeys = append(portKeys, "concurrency", "timeout", "payload")
	probeKeys  = map[Probe][]string{
		ProbeTCP:  {"port", "rate", "timeout"},
		ProbeUDP:  {"port", "rate", "timeout"},
		ProbeICMP: {"rate", "timeout"},
	}
	counts = []string{"requests", "connections", "flows"}
)

func checkEntry(p *problems, n *node, e *Entry, topology Topology) {
	if n.kind != mapping {
		return // reported by decode
	}
	generator, probe := n.get("generator"), n.get("probe")
	switch {
	case generator == nil && probe == nil:
		p.errorf(n.at, "an entry of the workload needs generator: %s, or probe: %s",
			strings.Join(e.Generator.Words(), "|"), strings.Join(e.Probe.Words(), "|"))
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

func (e Entry) keys() []string {
	if e.Probe != "" {
		return slices.Concat([]string{"probe"}, entryCommon, probeKeys[e.Probe])
	}
	return slices.Concat(entryCommon, generatorCommon, e.Generator.Fact().keys)
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
	bounded := []string{"duration", "concurrency", "rate", "sources", "packets"}
	for _, key := range append(bounded, counts...) {
		zero := fieldByKey(reflect.ValueOf(e).Elem(), key).IsZero()
		p.require(!n.has(key) || !zero, n.place(key), "%s must be more than 0", key)
	}
	count := shared(counts, e.Generator.Fact().keys)
	p.refuse(!n.has(count, "duration", "stages", "phase"), n.at,
		"%s needs %s, duration or stages", e.Generator, count)
	p.refuse(e.Generator == Hold && !n.has(count, "lifetime"), n.at, "hold needs connections")
	p.refuse(e.Generator == Hold && n.has("lifetime") && !n.has("duration"), n.at,
		"hold with a lifetime needs a duration, which ends it with all that are still open")
	p.refuse(n.has("duration") && n.has("stages"), n.place("duration"),
		"the stages say how long the load lasts; duration does not go with them")
	checkLoop(p, n, e)
	checkProfiles(p, n, e)
	valid := e.Generator.Fact().closes
	sound := e.Close == "" || len(valid) == 0 || slices.Contains(valid, e.Close)
	p.refuse(n.has("close") && !sound, n.place("close"),
		"close: %s does not go with generator: %s; valid there: %s",
		e.Close, e.Generator, strings.Join(words(valid...), ", "))
	p.refuse(e.KeepAlive && e.Concurrency == 0, n.place("keep-alive"),
		"keep-alive needs concurrency: the number of connections that are kept")
	p.refuse(e.Payload > 1<<20, n.place("payload"), "payload must be at most %s", Size(1<<20))
	most, datagrams := mostDatagram(topology), e.Transport() != "tcp"
	p.refuse(datagrams && e.Payload > most, n.place("payload"),
		"the payload of %s must be at most %s: the kernel fragments larger datagrams",
		e.Generator, most)
	checkUnanswered(p, n, e)
	checkAtOnce(p, n, e)
	checkLife(p, n, e)
	checkAnswers(p, n, e)
	p.require(e.Sources.Count > 0 || p.failed(n.place("sources")), n.place("sources"),
		"weights need the count of the sources: sources: {count: 100, weights: zipf(1.2)}")
	p.refuse(e.Sources.Weights > 0 && e.Sources.Count == 1, n.place("sources"),
		"weights need more than one source")
	p.refuse(e.Sources.Count > 60000, n.place("sources"), "at most 60000 source addresses")
}

// checkLife checks the keys that say how long connections and flows go on, and what they send.
func checkLife(p *problems, n *node, e *Entry) {
	interval := n.place("interval")
	p.require(!n.has("interval") || e.Interval > 0, interval, "interval must be more than 0s")
	switch e.Generator {
	case Hold:
		p.refuse(n.has("interval") && e.Payload <= 0, interval, "interval needs a payload to send")
		p.refuse(n.has("payload") && !n.has("interval"), n.place("payload"),
			"the payload of hold needs an interval, at which each connection sends it")
	case UDP:
		p.refuse(n.has("interval") && !n.has("lifetime") && e.Packets <= 1, interval,
			"interval needs packets, the number of datagrams of a flow, or lifetime, its time")
		p.refuse(n.has("lifetime") && !n.has("interval"), n.place("lifetime"),
			"the lifetime of a flow needs an interval, at which it sends datagrams")
		p.refuse(n.has("lifetime") && n.has("packets"), n.place("packets"),
			"packets and lifetime at once: both say how long a flow goes on")
	}
}

// checkAnswers refuses keys that change what the target answers where it does not answer.
func checkAnswers(p *problems, n *node, e *Entry) {
	for _, key := range []string{"answer-delay", "greeting"} {
		zero := fieldByKey(reflect.ValueOf(e).Elem(), key).IsZero()
		p.refuse(n.has(key) && zero, n.place(key), "%s must be more than 0", key)
	}
	p.refuse(e.AnswerDelay > 0 && (e.Silent || e.Crafted), n.place("answer-delay"),
		"answer-delay does not go with silent or crafted, which get no answer")
	p.refuse(e.Greeting > 1<<20, n.place("greeting"), "greeting must be at most %s", Size(1<<20))
	p.refuse(e.Greeting > 0 && e.Close == CloseHalf, n.place("greeting"),
		"greeting does not go with close: half-close, for which the target says nothing")
	if e.Listener != ListenerClosed && e.Listener != ListenerFull {
		return
	}
	without := []string{"answer-delay", "greeting"}
	if e.Generator == HTTP {
		without = append(without, "payload")
	}
	for _, key := range without {
		p.refuse(n.has(key), n.place(key), "%s does not go with listener: %s: no program of the "+
			"entry answers there", key, e.Listener)
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
	p.refuse(n.has("packets") && e.Packets > 1, n.place("packets"), "packets does not go with %s: "+
		"each datagram of a flow is sent when the one before was answered", why)
	p.refuse(n.has("timeout"), n.place("timeout"), "timeout does not go with %s: "+
		"nothing waits for an answer", why)
	for _, key := range []string{"lifetime", "interval"} {
		p.refuse(e.Crafted && n.has(key), n.place(key),
			"%s does not go with crafted: each flow is one datagram", key)
	}
	p.refuse(n.has("concurrency"), n.place("concurrency"), "concurrency does not go with %s: "+
		"the next flow begins when one was answered; a rate does not wait", why)
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
		p.errorf(at.at, "at-once does not go with crafted: "+
			"datagrams race each other through the socket that they share")
	case e.Generator == TCP && len(e.Ports.Expand()) < int(e.AtOnce):
		p.errorf(at.at, "%d connections at once from one source port need as many target ports",
			e.AtOnce)
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
		if slices.Contains(e.Generator.Fact().keys, "concurrency") {
			need = "concurrency (closed loop), or rate, stages, burst or sine (open loop)"
		}
		p.errorf(n.at, "%s needs %s", e.Generator, need)
	}
	p.require(!n.has("slack") || e.Slack > 0, n.place("slack"), "slack must be more than 0s")
	open := len(given) > 0 && given[0] != "concurrency"
	p.require(!n.has("slack") || open, n.place("slack"),
		"slack does not go with a closed loop, which has no schedule to be late for")
	p.refuse(n.has("slack") && e.Burst != nil && e.Slack <= e.Burst.Every, n.place("slack"),
		"slack changes nothing for a burst unless it is more than every: the sends of a burst "+
			"wait until the next one")
	p.refuse(e.Arrivals == Poisson && !open, n.place("arrivals"),
		"arrivals does not go with a closed loop, in which one begins when another ends")
	p.refuse(e.Arrivals == Poisson && e.Burst != nil, n.place("arrivals"),
		"arrivals: poisson does not go with burst, whose moments are given")
	stages := n.get("stages")
	if stages == nil || stages.kind != list {
		return
	}
	p.refuse(len(stages.items) == 0, stages.at, "stages is an empty list")
	for i, stage := range e.Stages {
		if at := stages.items[i]; at.kind == mapping {
			unread := at.has("duration") && p.failed(at.place("duration"))
			p.refuse(stage.Duration <= 0 && !unread, at.at, "a stage needs a duration")
			p.refuse(!at.has("rate"), at.at, "a stage needs a rate")
		}
	}
}

// checkProfiles checks burst and sine, the profiles that are no list.
func checkProfiles(p *problems, n *node, e *Entry) {
	sound := func(at *node) bool {
		failed := func(e entry) bool { return p.failed(e.value.at) }
		return at.kind == mapping && !slices.ContainsFunc(at.entries, failed)
	}
	if b := e.Burst; b != nil && sound(n.get("burst")) {
		p.refuse(b.Size <= 0 || b.Every <= 0, n.place("burst"),
			"a burst needs size and every: burst: {size: 500, every: 1s}")
	}
	switch at, s := n.get("sine"), e.Sine; {
	case s == nil || !sound(at):
	case s.Mean <= 0 || s.Period <= 0:
		p.errorf(at.at, "a sine needs mean and period: "+
			"sine: {mean: 1000/s, amplitude: 800/s, period: 30s}")
	case s.Amplitude > s.Mean:
		p.errorf(at.place("amplitude"),
			"the amplitude of a sine must be at most its mean: the rate would fall below 0")
	}
}

func checkProbe(p *problems, n *node, e *Entry) {
	p.refuse(e.Probe != ProbeICMP && !n.has("port"), n.at,
		"the probe needs a port, such as 22 for what an ssh login would see")
	p.refuse(!n.has("rate"), n.at, "the probe needs a rate, such as 10/s")
	p.require(!n.has("rate") || e.Rate > 0 && e.Rate <= 1000, n.place("rate"), "the rate of a "+
		"probe must be more than 0/s and at most 1000/s: a probe is a bystander, not load")
}

// entryFields are all keys of an entry; decode reports any other key.
var entryFields = fieldKeys(reflect.TypeFor[Entry]())
