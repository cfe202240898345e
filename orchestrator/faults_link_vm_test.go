package orchestrator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// network shapes the guest's own card.
func (w ward) network() {
	clean := w.impairment()
	_, revert := w.make(faults.Fault{Kind: actions.Network,
		Conditions: link.Conditions{Delay: 40 * time.Millisecond, Loss: 0.1}})
	during := w.impairment()
	revert()
	after := w.impairment()
	w.holds(clean.loss == 0, "before: %+v", clean)
	// Each way on its own: 1 - 0.9 * 0.9.
	w.holds(during.loss > 0.12 && during.loss < 0.27,
		"a loss of 10 %% each way lost %.1f %% of the exchanges, 19 are expected", 100*during.loss)
	w.holds(during.fastest >= 80*time.Millisecond && during.fastest < time.Second,
		"a delay of 40 ms each way made the quickest exchange one of %v", during.fastest)
	w.holds(after.loss == 0 && after.fastest < 80*time.Millisecond, "afterwards: %+v", after)
}

// set asks the lab for conditions, and clear restores the link.
func (w ward) set(node string, c link.Conditions) {
	w.Helper()
	now, err := w.lab.SetLink(w.Context(), node, wiring.ClientLink, c)
	w.must(err)
	w.Logf("%s: %v", node, now)
}

func (w ward) clear(node string) {
	w.Helper()
	_, err := w.lab.ClearLink(w.Context(), node, wiring.ClientLink)
	w.must(err)
}

// link has the lab shape, part and unplug its links.
func (w ward) link() {
	w.set("dut", link.Conditions{Delay: 60 * time.Millisecond, Jitter: 30 * time.Millisecond,
		Direction: actions.To})
	jittery := w.impairment()
	w.set("dut", link.Conditions{Duplicate: 0.5, Direction: actions.From})
	twice := w.generate(generators.Spec{Kind: generators.UDP, Target: dutAddress,
		Ports: []uint16{echoPort}, Count: 100, Rate: 500, Exchanges: 1, Timeout: 5 * time.Second,
		Slack: time.Minute})
	w.clear("dut")
	w.holds(jittery.fastest >= 30*time.Millisecond && jittery.spread > 15*time.Millisecond,
		"60±30 ms one way: %+v", jittery)
	w.holds(twice.Completed == 100, "half of the answers twice: %d of 100 exchanges",
		twice.Completed)

	for _, node := range []string{"dut", "client"} {
		w.set(node, link.Conditions{Partitioned: true})
		carrier := w.file("/sys/class/net/eth0/carrier")
		parted := w.echoed(50, time.Second)
		w.clear(node)
		joined := w.flows(50)
		w.holds(carrier == "1" && parted.Completed == 0,
			"%s parted: the carrier is %s, %d of 50 flows were answered", node, carrier,
			parted.Completed)
		w.holds(joined.Completed >= 49, "%s joined: %d of 50", node, joined.Completed)
	}
	w.set("dut", link.Conditions{Down: true})
	w.within(30*time.Second, "unplugged, the guest sees no carrier",
		func() bool { return w.file("/sys/class/net/eth0/carrier") == "0" })
	w.clear("dut")
	w.within(30*time.Second, "the guest sees its carrier again",
		func() bool { return w.file("/sys/class/net/eth0/carrier") == "1" })
	w.within(30*time.Second, "flows are answered again",
		func() bool { return w.echoed(5, time.Second).Completed == 5 })
	w.set("client", link.Conditions{Down: true})
	carrier, err := w.client.Agent().ReadFile(w.Context(), "/sys/class/net/eth0/carrier")
	w.clear("client")
	w.holds(err != nil || strings.TrimSpace(carrier) == "0",
		"unplugged, the client sees the carrier %q (%v)", carrier, err)
	w.within(30*time.Second, "flows are answered again",
		func() bool { return w.echoed(5, time.Second).Completed == 5 })

	if _, err := w.lab.SetLink(w.Context(), "dutt", wiring.ClientLink,
		link.Conditions{Loss: 1}); err == nil || !strings.Contains(err.Error(), "dut on client") {
		w.Errorf("a node that is not there: %v", err)
	}
	if _, err := w.lab.SetLink(w.Context(), "dut", wiring.ClientLink,
		link.Conditions{Loss: 2}); err == nil {
		w.Error("a loss of 200 % is taken")
	}
}

// datagrams returns a counter of the guest's UDP.
func (w ward) datagrams(name string) int {
	w.Helper()
	var names []string
	for line := range strings.Lines(w.file("/proc/net/snmp")) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if i := slices.Index(names, name); i >= 0 {
			return atoi(fields[i])
		}
		names = fields
	}
	w.Fatalf("the guest counts no %s", name)
	return 0
}

// frames has the link copy, corrupt, delay and reorder the frames to the guest, and checks the
// guest's counters and the delay of the answers.
func (w ward) frames() {
	const flows = 200
	ask := func(c link.Conditions) (r generators.Result, received, broken int) {
		w.Helper()
		if c != (link.Conditions{}) {
			c.Direction = actions.To
			w.set("dut", c)
			defer w.clear("dut")
		}
		received, broken = w.datagrams("InDatagrams"), w.datagrams("InCsumErrors")
		r = w.generate(generators.Spec{
			Kind: generators.UDP, Target: dutAddress, Ports: []uint16{echoPort}, Count: flows,
			Rate: 1000, Payload: 1000,
			Exchanges: 1, Timeout: 10 * time.Second, Slack: time.Minute,
		})
		return r, w.datagrams("InDatagrams") - received, w.datagrams("InCsumErrors") - broken
	}
	as := func(before string) {
		w.Helper()
		w.within(30*time.Second,
			fmt.Sprintf("%s: all of %d datagrams come once, whole, and are answered, half "+
				"within 100 ms", before, flows), func() bool {
				r, received, broken := ask(link.Conditions{})
				w.Logf("%s: of %d datagrams the guest got %d and %d broken ones, %d were "+
					"answered, "+
					"half within %v", before, flows, received, broken, r.Completed,
					r.Total.Quantile(0.5))
				return r.Completed == flows && received == flows && broken == 0 &&
					r.Total.Quantile(0.5) < 100*time.Millisecond
			})
	}
	as("in order")
	w.within(30*time.Second, "every second one twice, and all are answered", func() bool {
		r, received, _ := ask(link.Conditions{Duplicate: 0.5})
		w.Logf("every second one twice: the guest got %d of %d, %d were answered, %v", received,
			flows, r.Completed, r.Causes)
		return r.Completed == flows && received > flows*5/4 && received < flows*7/4
	})
	as("after duplicates")
	r, _, broken := ask(link.Conditions{Corrupt: 0.5})
	// Now and then the turned bit is in the Ethernet or IP header; one in the payload makes a wrong
	// checksum.
	w.holds(broken > flows/4 && broken < flows*3/4 && r.Failed >= int64(broken),
		"a bit turned in every second one: the guest counts %d of %d as broken, %d were not "+
			"answered", broken, flows, r.Failed)
	as("after broken ones")
	r, _, _ = ask(link.Conditions{Rate: 1_000_000})
	// 200 frames of 1042 bytes take 1.67 s, and all were sent within 0.2.
	w.holds(r.Completed == flows && r.Total.Max() > 1200*time.Millisecond &&
		r.Total.Max() < 10*time.Second, "at 1 Mbit/s the last one waited %v", r.Total.Max())
	as("after a narrow link")
	w.within(time.Minute, "every second one overtakes: a quarter within 200 ms", func() bool {
		r, _, _ := ask(link.Conditions{Delay: 300 * time.Millisecond, Reorder: 0.5})
		w.holds(r.Completed == flows && r.Total.Quantile(0.75) >= 300*time.Millisecond,
			"%d of %d answered, the last quarter from %v on", r.Completed, flows,
			r.Total.Quantile(0.75))
		return r.Total.Quantile(0.25) < 200*time.Millisecond
	})
	as("after reordering")
}

// within waits for a condition.
func (w ward) within(limit time.Duration, what string, happens func() bool) {
	w.Helper()
	if !hosttest.Poll(limit, happens) {
		w.Errorf("does not hold within %v: %s", limit, what)
		return
	}
	w.Log("holds: " + what)
}

// pause stops the guest for a while: it answers the requests of that time afterwards.
func (w ward) pause() {
	machine := w.dut.(vm.Pausable)
	before, received := w.offset(), w.datagrams("InDatagrams")
	answered := make(chan generators.Result)
	go func() {
		answered <- w.generate(generators.Spec{
			Kind: generators.UDP, Target: dutAddress, Ports: []uint16{echoPort}, Count: 800,
			Rate: 100, Exchanges: 1, Timeout: 20 * time.Second, Slack: time.Minute,
		})
	}()
	w.within(30*time.Second, "flows arrive",
		func() bool { return w.datagrams("InDatagrams") >= received+20 })
	begun := time.Now()
	w.must(machine.Pause(w.Context()))
	stood := time.Now()
	paused, err := machine.Paused(w.Context())
	w.must(err)
	time.Sleep(1500 * time.Millisecond)
	least := time.Since(stood)
	w.must(machine.Resume(w.Context()))
	most := time.Since(begun)
	r := <-answered
	w.holds(paused, "it says that it is paused")
	w.holds(r.Completed == 800 && r.Total.Max() > least-100*time.Millisecond &&
		r.Total.Quantile(0.3) < 300*time.Millisecond,
		"of 800 flows over 8 s %d were answered, one after %v, the first third within %v",
		r.Completed, r.Total.Max(), r.Total.Quantile(0.3))
	behind := before - w.offset()
	w.holds(behind > least-200*time.Millisecond && behind < most+200*time.Millisecond,
		"the guest's clock stood still for %v, of %v to %v", behind, least, most)
	w.within(time.Minute, "answers are quick again",
		func() bool {
			r := w.flows(20)
			return r.Completed == 20 &&
				r.Total.Max() < 300*time.Millisecond
		})
	w.must(machine.Resume(w.Context()))

	node := w.client.(vm.Pausable)
	w.must(node.Pause(w.Context()))
	w.within(20*time.Second, "the client stands still",
		func() bool { paused, err := node.Paused(w.Context()); return err == nil && paused })
	w.must(node.Resume(w.Context()))
	w.holds(w.flows(20).Completed == 20, "and goes on")
}

// memoryPressure takes the guest's memory and lets flows ask for more.
func (w ward) memoryPressure() {
	free := func() int {
		for line := range strings.Lines(w.file("/proc/meminfo")) {
			if fields := strings.Fields(line); fields[0] == "MemFree:" {
				return atoi(fields[1])
			}
		}
		return -1
	}
	before := free()
	_, revert := w.make(faults.Fault{Kind: actions.MemoryPressure, Leave: 32 << 20})
	during := free()
	revert()
	w.holds(during < 60<<10 && before > 100<<10,
		"of %d KiB %d were free when 32 MiB were to be left", before, during)
	w.within(30*time.Second, "afterwards it is free again",
		func() bool { return free() > before-20<<10 })

	_, err := w.dut.Agent().KernelLog(w.Context()) // the lines from before
	w.must(err)
	_, revert = w.make(faults.Fault{Kind: actions.MemoryPressure})
	flood := w.generate(generators.Spec{Kind: generators.UDP, Target: dutAddress,
		Ports: []uint16{echoPort}, Count: 30000, Rate: 10000, Slack: time.Second})
	count := w.count()
	log, err := w.dut.Agent().KernelLog(w.Context())
	w.must(err)
	revert()
	failures := 0
	for _, record := range log.Records {
		if results.MemoryFault(record.Message) {
			failures++
			w.Log(record.Message)
		}
	}
	w.Logf("a flood of %d flows left %d entries of at most 65536", flood.Completed, count)
	w.holds(failures > 0, "the kernel's log tells %d times that memory ran out", failures)
	w.within(time.Minute, "afterwards flows are answered",
		func() bool { return w.flows(100).Completed == 100 })
	w.make(faults.Fault{Kind: actions.Flush})
}

func atoi(text string) int {
	n := 0
	for _, digit := range text {
		n = 10*n + int(digit-'0')
	}
	return n
}

// reset presses the guest's reset button. It runs last: the guest boots anew.
func (w ward) reset() {
	before, err := w.dut.Agent().Hello(w.Context())
	w.must(err)
	w.set("dut", link.Conditions{Delay: time.Millisecond})
	lost := w.dut.Agent().Lost()
	begun := time.Now()
	w.must(w.dut.(vm.Resettable).Reset(w.Context()))
	w.Logf("back after %v", time.Since(begun))
	select {
	case <-lost:
	case <-time.After(30 * time.Second):
		w.Error("the client of before is not lost")
	}
	after, err := w.dut.Agent().Hello(w.Context())
	w.must(err)
	w.holds(after.Uptime < before.Uptime, "up for %v, before for %v", after.Uptime, before.Uptime)
	w.clear("dut")
	w.furnish()
	w.flows(100)
	w.holds(w.count() >= 100 && w.count() < 150, "a new table, with %d entries", w.count())
}
