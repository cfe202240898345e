package orchestrator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
)

func (w ward) sysctl() {
	_, empty := w.make(faults.Fault{Kind: actions.Flush})
	_ = empty
	_, revert := w.make(faults.Fault{Kind: actions.Sysctl,
		Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_max", Value: "40"}}})
	w.echoed(200, time.Second)
	full := w.count()
	revert()
	w.flows(200)
	after := w.count()
	w.holds(full <= 41, "with a maximum of 40, 200 flows left %d entries", full)
	w.holds(after >= 200, "with the maximum of before, 200 flows left %d entries", after)
}

func (w ward) buckets() {
	const file = "/sys/module/nf_conntrack/parameters/hashsize"
	before := w.file(file)
	_, revert := w.make(faults.Fault{Kind: actions.Buckets, Buckets: 16000})
	during := w.file(file)
	revert()
	w.holds(during == "16384", "asked for 16000 buckets, the module has %s", during)
	w.holds(w.file(file) == before, "afterwards %s, before %s", w.file(file), before)
}

const notrack = "*raw\n-A PREROUTING -p udp --dport 7 -j NOTRACK\n" +
	"-A OUTPUT -p udp --sport 7 -j NOTRACK\nCOMMIT\n"

func (w ward) rulesLoad() {
	for name, rules := range map[string]faults.Rules{
		"nft":    {IPv4: notrack},
		"legacy": {IPv4: notrack, Backend: tuning.BackendLegacy},
		"script": {NFT: "table ip fix {\n chain in {\n" +
			" type filter hook prerouting priority raw\n udp dport 7 notrack\n }\n chain out {\n" +
			" type filter hook output priority raw\n udp sport 7 notrack\n }\n}\n"},
	} {
		w.make(faults.Fault{Kind: actions.Flush})
		_, revert := w.make(faults.Fault{Kind: actions.RulesLoad, Rules: rules})
		untracked := w.flows(100)
		count := w.count()
		revert()
		w.flows(100)
		w.holds(untracked.Completed == 100 && count < 10,
			"%s: with NOTRACK %d of 100 flows were answered and left %d entries", name,
			untracked.Completed, count)
		w.holds(w.count() >= 100, "%s: without, 100 flows left %d entries", name, w.count())
	}
	w.make(faults.Fault{Kind: actions.Flush}) // a flow with an entry passes the earlier rule
	_, revert := w.make(faults.Fault{Kind: actions.RulesLoad,
		Rules: faults.Rules{IPv4: "*filter\n-A INPUT -p udp --dport 7 -j DROP\nCOMMIT\n",
			Add: true}})
	blocked := w.echoed(50, time.Second)
	state := w.state()
	revert()
	w.holds(blocked.Completed == 0, "with a rule that was added, %d of 50 flows were answered",
		blocked.Completed)
	w.holds(strings.Contains(state.Rules, "ESTABLISHED"), "the rules of before are there beside it")
	w.holds(w.flows(50).Completed == 50, "without it all are")
}

func (w ward) rulesRemove() {
	w.make(faults.Fault{Kind: actions.Flush})
	_, revert := w.make(faults.Fault{Kind: actions.RulesRemove})
	w.flows(100)
	count := w.count()
	revert()
	w.flows(100)
	w.holds(count == 0, "without rules 100 flows left %d entries", count)
	w.holds(w.count() >= 100, "with those of before %d", w.count())
}

func (w ward) flush() {
	w.flows(300)
	before := w.count()
	made, _ := w.make(faults.Fault{Kind: actions.Flush})
	after := w.count()
	w.holds(before >= 300 && after < 10, "a flush left %d of %d entries", after, before)
	w.holds(made.Figures[0].Before != made.Figures[0].After, "it says %v", made.Figures)
}

// in returns how many entries of the table have a protocol and a state.
func (w ward) in(protocol, state string) int64 {
	w.Helper()
	table, err := w.dut.Agent().Dump(w.Context())
	w.must(err)
	var n int64
	for _, s := range table.Composition.States {
		if s.Protocol == protocol && (state == "" || s.State == state) {
			n += s.Entries
		}
	}
	return n
}

func (w ward) delete() {
	w.make(faults.Fault{Kind: actions.Flush})
	w.flows(100)
	w.generate(generators.Spec{Kind: generators.HTTP, Target: dutAddress, Ports: []uint16{webPort},
		Count: 200, Concurrency: 4})
	w.generate(generators.Spec{Kind: generators.TCP, Target: dutAddress, Ports: []uint16{webPort},
		Count: 50, Concurrency: 4, Close: generators.CloseAbandon})
	var waiting, open int64
	w.within(30*time.Second, "all connections are closed or established", func() bool {
		waiting, open = w.in("tcp", "TIME_WAIT"), w.in("tcp", "ESTABLISHED")
		return waiting == 200 && open == 50
	})
	datagrams := w.in("udp", "")
	w.make(faults.Fault{Kind: actions.Delete, Delete: faults.Filter{State: "TIME_WAIT"}})
	w.holds(waiting == 200 && w.in("tcp", "TIME_WAIT") == 0,
		"of %d entries in TIME_WAIT %d are left", waiting, w.in("tcp", "TIME_WAIT"))
	w.holds(w.in("tcp", "ESTABLISHED") == open && open == 50, "of %d in ESTABLISHED %d", open,
		w.in("tcp", "ESTABLISHED"))
	w.holds(w.in("udp", "") == datagrams, "of %d of udp %d", datagrams, w.in("udp", ""))
	w.make(faults.Fault{Kind: actions.Delete, Delete: faults.Filter{Protocol: "udp",
		Port: echoPort + 1}})
	w.holds(w.in("udp", "") == datagrams, "another port: %d of %d", w.in("udp", ""), datagrams)
	w.make(faults.Fault{Kind: actions.Delete, Delete: faults.Filter{Source: "10.77.0.0/24",
		Port: echoPort}})
	w.holds(w.in("udp", "") == 0, "by network and port: %d of %d", w.in("udp", ""), datagrams)
}

func (w ward) moduleRemove() {
	_, revert := w.make(faults.Fault{Kind: actions.ModuleRemove})
	modules := w.file("/proc/modules")
	answered := w.flows(100).Completed
	revert()
	w.holds(!strings.Contains(modules, "nf_conntrack ") && answered == 100,
		"without the module %d of 100 flows are answered", answered)
	w.flows(100)
	w.holds(w.count() >= 100, "with it there are %d entries", w.count())
	timeout := w.file("/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
	w.holds(timeout == "77", "the timeout that was set before is %s again", timeout)
}

// offset returns how far the guest's clock is from this host's, from a quick exchange.
func (w ward) offset() (offset time.Duration) {
	w.Helper()
	w.within(time.Minute, "the guest's clock is told quickly", func() bool {
		asked := time.Now()
		clock, err := w.dut.Agent().Clock(w.Context())
		w.must(err)
		offset = time.Until(clock.Realtime)
		return time.Since(asked) < 50*time.Millisecond
	})
	return offset
}

func (w ward) clockJump() {
	for _, by := range []time.Duration{time.Hour + 500*time.Millisecond, -90 * time.Minute} {
		before := w.offset()
		_, revert := w.make(faults.Fault{Kind: actions.ClockJump, Clock: by})
		during := w.offset()
		revert()
		after := w.offset()
		w.holds((during-before-by).Abs() < 200*time.Millisecond,
			"set by %v, the clock is off by %v", by, during-before)
		w.holds((after-before).Abs() < 200*time.Millisecond, "and afterwards by %v", after-before)
	}
}

// pages returns how many requests of a closed loop the guest answers per second.
func (w ward) pages() int64 {
	w.Helper()
	return w.generate(generators.Spec{
		Kind: generators.HTTP, Target: dutAddress, Ports: []uint16{webPort}, Concurrency: 8,
		KeepAlive: 1 << 20, Duration: time.Second,
	}).Completed
}

func (w ward) cpuThrottle() {
	before := max(w.pages(), w.pages(), w.pages()) // the host may lack the time for one
	_, revert := w.make(faults.Fault{Kind: actions.CPUThrottle, CPU: 0.9})
	during := w.pages()
	undone := revert()
	w.holds(float64(during) < 0.5*float64(before),
		"with 0.9 of the CPU taken %d requests a second, before %d", during, before)
	// A busy host may make it any slower than before, but not so slow for so long.
	w.within(time.Minute, "afterwards requests are answered several times as fast",
		func() bool { return w.pages() > 3*during })
	w.holds(slices.ContainsFunc(undone.Figures,
		func(f faults.Figure) bool { return f.Name == "CPU seconds taken" }),
		"it says what was taken")
}

// page requests five pages, each on a connection of its own.
func (w ward) page(limit time.Duration) generators.Result {
	w.Helper()
	return w.generate(generators.Spec{
		Kind: generators.HTTP, Target: dutAddress, Ports: []uint16{webPort}, Concurrency: 1,
		Count: 5, Timeout: limit,
	})
}

// talking returns how many connections the guest's web server has.
func (w ward) talking() (n int) {
	w.Helper()
	for line := range strings.Lines(w.file("/proc/net/tcp") + "\n" + w.file("/proc/net/tcp6")) {
		f, suffix := strings.Fields(line), fmt.Sprintf(":%04X", webPort)
		if len(f) > 3 && strings.HasSuffix(f[1], suffix) && f[3] == "01" {
			n++
		}
	}
	return n
}

func (w ward) servers() {
	for kind, expected := range map[actions.Kind]struct {
		cause generators.Cause
		limit time.Duration
	}{actions.ServerStop: {generators.Refused, 5 * time.Second},
		actions.ServerStall: {generators.Timeout, 300 * time.Millisecond}} {
		cause := expected.cause
		_, revert := w.make(faults.Fault{Kind: kind, Ports: []uint16{webPort}})
		during, other := w.page(expected.limit), w.flows(20)
		revert()
		w.holds(during.Completed == 0 && during.Causes[string(cause)] == 5,
			"%s: %d requests were answered, and failed by %v", kind, during.Completed,
			during.Causes)
		w.holds(other.Completed == 20, "%s: the other responder answered %d of 20", kind,
			other.Completed)
		w.within(30*time.Second, string(kind)+": afterwards all are answered",
			func() bool { return w.page(5*time.Second).Completed == 5 })
	}
	held, others := make(chan generators.Result), w.talking()
	go func() {
		held <- w.generate(generators.Spec{Kind: generators.TCP, Target: dutAddress,
			Ports: []uint16{webPort}, Concurrency: 5, Count: 5,
			Lifetime: lifetimes.Of(30 * time.Second)})
	}()
	w.within(20*time.Second, "five connections are open",
		func() bool { return w.talking() == others+5 })
	w.make(faults.Fault{Kind: actions.ServerRestart})
	broken := <-held
	w.holds(broken.Failed == 5, "a restart broke %d of 5 connections: %v", broken.Failed,
		broken.Causes)
	w.within(30*time.Second, "all new ones are answered",
		func() bool { return w.page(5*time.Second).Completed == 5 })
}

// impairment counts the effects of a link on flows of one datagram and its echo.
type impairment struct {
	loss    float64
	fastest time.Duration
	spread  time.Duration
}

func (w ward) impairment() impairment {
	w.Helper()
	r := w.flows(500)
	return impairment{loss: float64(r.Failed) / float64(r.Offered), fastest: r.Total.Min(),
		spread: r.Total.Quantile(0.9) - r.Total.Min()}
}

// refused checks that bad faults leave nothing.
func (w ward) refused() {
	for word, f := range map[string]faults.Fault{
		`did you mean "flush"`: {Kind: "flusch"},
		"did you mean net.netfilt": {Kind: actions.Sysctl,
			Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_udp_timeout", Value: "99"},
				{Key: "net.netfilter.nf_conntrack_maxx", Value: "1"}}},
		"udp_timeout": {Kind: actions.Sysctl,
			Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_max", Value: "777"},
				{Key: "net.netfilter.nf_conntrack_udp_timeout", Value: "soon"}}},
		"iptables-nft-restore": {Kind: actions.RulesLoad,
			Rules: faults.Rules{IPv4: "*raw\n-A PREROUTING -j NOWHERE\nCOMMIT\n"}},
		"open are [7 80]": {Kind: actions.ServerStop, Ports: []uint16{8080}},
		"nothing to remove": {Kind: actions.ModuleRemove,
			Modules: []string{"nf_flow_table"}},
	} {
		f.ID = "bad"
		_, err := w.dut.Agent().Apply(w.Context(), f)
		if err == nil || !strings.Contains(err.Error(), word) {
			w.Errorf("%s: the error does not say %q: %v", f.Kind, word, err)
		}
	}
	if _, err := w.dut.Agent().Revert(w.Context(), "bad"); err == nil {
		w.Error("a fault that was refused can be reverted")
	}
}

// overlap reverts a fault while a later one covers it.
func (w ward) overlap() {
	const file, key = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout",
		"net.netfilter.nf_conntrack_udp_timeout"
	_, first := w.make(faults.Fault{ID: "first", Kind: actions.Sysctl,
		Sysctl: []tuning.Sysctl{{Key: key, Value: "100"}}})
	_, second := w.make(faults.Fault{ID: "second", Kind: actions.Sysctl,
		Sysctl: []tuning.Sysctl{{Key: key, Value: "200"}}})
	first()
	w.holds(w.file(file) == "200", "the later fault stays: %s", w.file(file))
	second()
	w.holds(w.file(file) == "77", "and then it is as before both: %s", w.file(file))
}

// killed has an owner of faults end by SIGKILL while they hold, on a machine that lives on.
func (w ward) killed() {
	key := func(name, value string) []tuning.Sysctl {
		return []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_" + name, Value: value}}
	}
	for _, list := range [][]faults.Fault{
		{
			{ID: "1", Kind: actions.Sysctl, Sysctl: key("max", "1234")},
			{ID: "2", Kind: actions.Buckets, Buckets: 4096},
			{ID: "3", Kind: actions.RulesLoad, Rules: faults.Rules{IPv4: notrack}},
			{ID: "4", Kind: actions.ClockJump, Clock: time.Hour},
			{ID: "5", Kind: actions.CPUThrottle, CPU: 0.3},
			{ID: "6", Kind: actions.MemoryPressure, Leave: 64 << 20},
			{ID: "7", Kind: actions.Network,
				Conditions: link.Conditions{Delay: 100 * time.Millisecond}},
			{ID: "8", Kind: actions.Sysctl, Sysctl: key("max", "4321")},
		},
		{{ID: "1", Kind: actions.RulesRemove}, {ID: "2", Kind: actions.ModuleRemove}},
	} {
		offset := w.offset()
		text, err := json.Marshal(list)
		w.must(err)
		_, err = w.dut.Agent().Exec(w.Context(), string(text), "/usr/bin/owner")
		w.holds(err != nil && strings.Contains(err.Error(), "killed"),
			"the owner of %d faults was killed: %v", len(list), err)
		w.within(time.Minute, "no agent and no eater is left", func() bool {
			out, err := w.dut.Agent().Exec(w.Context(), "", "/usr/bin/owner", "left")
			w.must(err)
			w.Log(strings.TrimSpace(out.Stdout + out.Stderr))
			return out.Exit == 0
		})
		off := w.offset() - offset
		w.holds(off.Abs() < 200*time.Millisecond, "the clock is off by %v", off)
		w.within(30*time.Second, "flows are as quick as before",
			func() bool { return w.flows(50).Total.Min() < 100*time.Millisecond })
	}
}
