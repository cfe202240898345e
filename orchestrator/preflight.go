package orchestrator

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/preflight"
)

// Preflight loads the rules of all scenarios with this host's tools, in namespaces of their own. A
// text that a tool refuses is an [*scenarios.InvalidError] at its place; what this host's kernel
// refuses, and what could not be tried, is a warning.
func (p *Plan) Preflight(ctx context.Context) (warnings []string, err error) {
	var tried []scenarios.Resolved
	var attempts []preflight.Attempt
	for _, s := range p.Scenarios {
		all, err := wiring.Settings(p.Experiment.Topology, s.DUT)
		if err != nil {
			return nil, err
		}
		a := preflight.Attempt{Settings: tuning.Settings{
			IPSet: all.IPSet, Rules: all.Rules, Rules6: all.Rules6,
			RulesBackend: all.RulesBackend, NFT: all.NFT,
		}}
		for _, name := range s.DUT.Interfaces(p.Experiment.Topology) {
			a.Links = append(a.Links, name)
		}
		slices.Sort(a.Links)
		known := func(b preflight.Attempt) bool { return reflect.DeepEqual(a, b) }
		if len(a.Settings.Tools()) > 0 && !slices.ContainsFunc(attempts, known) {
			tried, attempts = append(tried, s), append(attempts, a)
		}
	}
	if len(attempts) == 0 {
		return nil, nil
	}
	found, err := preflight.Check(ctx, attempts)
	if err != nil {
		return []string{"the rules are not tried before the run: " + err.Error()}, nil
	}
	invalid := &scenarios.InvalidError{}
	for i, faults := range found {
		s, asked := tried[i], attempts[i].Settings
		texts := map[string]string{
			"ipset": asked.IPSet, "rules": asked.Rules, "rules6": asked.Rules6, "nft": asked.NFT,
		}
		for _, f := range faults {
			at := p.Experiment.Place(s, f.Key, f.Locate(texts[f.Key]), f.Column)
			if f.Kernel && len(s.DUT.Setup) > 0 {
				continue // it may lack what the commands make
			}
			if f.Kernel {
				warnings = append(warnings, fmt.Sprintf("%s: this host's kernel refuses it, and "+
					"the DUT's may take it: %s", at, f.Said))
				continue
			}
			found := p.Experiment.Invalid(at, f.Said).Problems
			invalid.Problems = append(invalid.Problems, found...)
		}
	}
	if len(invalid.Problems) > 0 {
		return warnings, invalid
	}
	return warnings, nil
}
