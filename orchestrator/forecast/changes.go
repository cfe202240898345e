package forecast

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// event is an action that begins, or is taken back.
type event struct {
	action scenarios.Action
	index  int // of the action
	at     float64
	known  bool // whether at is a time of the load's axis; else it counts from the condition
	undo   bool
}

// events returns what the actions do to the DUT, in the order of their times. Those of unknown time
// come last.
func (p *prediction) events(until float64) []event {
	var list []event
	for i, a := range p.Scenario.Actions {
		if a.Kind != actions.Join && a.Node != "" && a.Node != wiring.DUT {
			continue
		}
		if p.Performed != nil {
			list = append(list, p.performed(i, a)...)
			continue
		}
		at, known := p.Scenario.ActionBegins(a)
		begin := at.Seconds()
		switch {
		case a.When.Text != "":
			begin = a.After.Seconds()
		case a.Phase == scenarios.PhaseRecovery:
			begin, known = until-watched+at.Seconds(), true
		}
		for n := range max(1, int(a.Times)) {
			from := begin + float64(n)*a.Every.Seconds()
			list = append(list, event{a, i, from, known, false})
			if a.For > 0 && a.Kind.Undoable() {
				list = append(list, event{a, i, from + a.For.Seconds(), known, true})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b event) int {
		if a.known != b.known {
			if a.known {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.at, b.at)
	})
	return list
}

// performed returns the ith action as often as the trial performed it: each in the middle of the
// time that it took.
func (p *prediction) performed(i int, a scenarios.Action) (list []event) {
	for _, done := range p.Performed {
		if done.Name != a.Name || done.Begun == nil {
			continue
		}
		list = append(list, event{a, i, *done.Begun + done.Took/2, true, false})
		if done.Ended != nil && a.Kind.Undoable() {
			list = append(list, event{a, i, *done.Ended, true, true})
		}
	}
	return list
}

// sizes are the sizes of the table in a situation.
type sizes struct{ max, buckets int64 }

// changes returns what the actions change in a simulation: sizes, timeouts, rules, entries, and
// which streams begin. The effects of actions on links, servers and CPUs are not predicted.
func (p *prediction) changes(in *occupancy.Input) []occupancy.Change {
	var list []occupancy.Change
	active := map[int]bool{}
	for _, e := range p.events(in.Until) {
		active[e.index] = !e.undo
		change := occupancy.Change{At: e.at, When: p.condition(e)}
		switch e.action.Kind {
		case actions.Join:
			for i, one := range p.parts {
				if one.joins == e.action.Name {
					change.Joins = append(change.Joins, i)
				}
			}
		case actions.Flush, actions.Reset:
			change.Remove = func(int, int) float64 { return 1 }
		case actions.Delete:
			change.Remove = p.removes(e.action)
		case actions.ModuleRemove:
			change.Remove = func(int, int) float64 { return 1 }
			fallthrough
		case actions.Sysctl, actions.Buckets, actions.RulesLoad, actions.RulesRemove:
			now, size := p.situation(active)
			change.Max, change.Buckets = size.max, size.buckets
			change.Streams = map[int]occupancy.Update{}
			for i, one := range p.parts {
				states := now.states(one.a, one.port)
				refusal := now.refusal(one.a, one.port)
				update := occupancy.Update{
					States: states, Refusal: refusal, Pool: p.pools.of(now, one),
					Untracked: len(states) == 0 && refusal == occupancy.Accepted,
				}
				if len(states) > 0 && len(in.Streams[i].States) == 0 {
					in.Streams[i].States = states // it begins untracked
				}
				change.Streams[i] = update
			}
		default:
			continue
		}
		list = append(list, change)
	}
	var begin []occupancy.Change
	for i, one := range p.parts {
		never := len(p.base.states(one.a, one.port)) == 0 &&
			in.Streams[i].Refusal == occupancy.Accepted
		if never && len(in.Streams[i].States) > 0 {
			begin = append(begin, occupancy.Change{
				At: in.From, Streams: map[int]occupancy.Update{i: {Untracked: true}},
			})
		}
	}
	list = append(begin, list...)
	return list
}

// condition returns the condition of an event in terms of the simulation; nil where it has a time.
// A condition over figures of the load or of the bystanders does not come true.
func (p *prediction) condition(e event) func(occupancy.Moment) bool {
	if e.known {
		return nil
	}
	condition, err := results.CompileCondition(e.action.When.Text, results.Workload{})
	if err != nil {
		return func(occupancy.Moment) bool { return false }
	}
	return func(m occupancy.Moment) bool {
		moment := results.Moment{Elapsed: m.Seconds}
		table := &moment.Conntrack
		table.Count, table.Max, table.Buckets = int64(m.Count), int64(m.Max), int64(m.Buckets)
		if m.Max > 0 {
			table.Fill = m.Count / m.Max
		}
		table.Drop, table.EarlyDrop = int64(m.Drop), int64(m.EarlyDrop)
		table.InsertFailed = int64(m.Refused)
		table.Drops, table.EarlyDrops = m.DropPerS, m.EarlyDropPerS
		return condition.Holds(&moment)
	}
}

// situation returns the situation with the actions that hold, and the sizes of the table.
func (p *prediction) situation(active map[int]bool) (situation, sizes) {
	s := p.base.clone()
	size := sizes{p.State.Max, p.State.Buckets}
	for i, a := range p.Scenario.Actions {
		if !active[i] {
			continue
		}
		switch a.Kind {
		case actions.Sysctl:
			for _, setting := range a.Sysctl {
				s.set(setting, &size)
			}
		case actions.Buckets:
			size.buckets = kernels.RoundBuckets(int64(a.Buckets), max(p.State.BucketMultiple, 512))
		case actions.RulesLoad:
			s.load(a)
		case actions.RulesRemove:
			s.rules = rules.Ruleset{}
		case actions.ModuleRemove:
			s.rules = rules.Ruleset{}
			clear(s.tracked)
			continue
		default:
			continue
		}
		if a.Kind == actions.RulesLoad || a.Kind == actions.RulesRemove {
			s.retrack(p.Scenario.DUT)
		}
	}
	return s, size
}

// set applies a sysctl.
func (s *situation) set(setting scenarios.Setting, size *sizes) {
	key, _ := kernels.Key(setting.Key)
	n, err := strconv.ParseInt(setting.Value, 10, 64)
	switch {
	case err != nil:
	case key == kernels.KeyMax:
		size.max = n
	case key == kernels.KeyBuckets:
		size.buckets = kernels.RoundBuckets(n, 512)
	case key == kernels.Prefix+"tcp_loose":
		s.loose = n != 0
	default:
		if _, known := s.timeouts[key]; known {
			s.timeouts[key] = n
		}
	}
}

// load loads rules as the action does: tables of iptables replace those of the same name, or add to
// them; a script of nft does what it says.
func (s *situation) load(a scenarios.Action) {
	fresh := rules.Read(rules.Texts{IPv4: a.Rules, IPv6: a.Rules6, NFT: a.NFT})
	script := rules.NFT(a.NFT)
	var kept []*rules.Table
	for _, t := range s.rules.Tables {
		replaced := fresh.Table(t.Family, t.Name) != nil && !a.Add
		if !replaced && !script.Flushes(t.Family) {
			kept = append(kept, t)
		}
	}
	s.rules = rules.Ruleset{Tables: append(kept, fresh.Tables...)}
}

// retrack decides anew which families the rules track.
func (s *situation) retrack(dut scenarios.Configuration) {
	hooked := slices.ContainsFunc(kernels.Loading(dut.Modules.Load), func(module string) bool {
		return slices.Contains(strings.Fields(module), "enable_hooks=1")
	})
	s.tracked[scenarios.IPv4] = hooked || s.rules.Tracks(rules.IPv4) != nil
	s.tracked[scenarios.IPv6] = hooked || s.rules.Tracks(rules.IPv6) != nil
}

// removes returns the share of each stream's entries that a delete action removes. The addresses of
// its filter are not judged.
func (p *prediction) removes(a scenarios.Action) func(stream, state int) float64 {
	return func(stream, state int) float64 {
		one := p.parts[stream]
		states := p.base.states(one.a, one.port)
		if state >= len(states) {
			return 0
		}
		protocol := string(one.a.Transport())
		switch {
		case a.Protocol != "" && a.Protocol != protocol && a.Protocol != protocol+"v6":
		case a.State != "" && a.State != states[state].Name:
		case a.Unassured && states[state].Class != occupancy.Evictable:
		case a.Port != 0 && !slices.Contains(one.a.Spec.Ports, uint16(a.Port)):
		case a.Port != 0:
			return 1 / float64(one.ports)
		default:
			return 1
		}
		return 0
	}
}
