package orchestrator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/preflight"
)

// Preflight loads the rules of all scenarios with this host's tools, in namespaces of their own. A
// text that a tool refuses is an [*scenarios.InvalidError] at its place; what this host's kernel
// refuses, and what could not be tried, is a warning.
func (p *Plan) Preflight(ctx context.Context) (warnings []string, err error) {
	var tried []tuning.Settings
	invalid := &scenarios.InvalidError{}
	box := ""
	defer func() {
		if box != "" {
			_ = os.RemoveAll(box) // files of this process alone
		}
	}()
	for _, s := range p.Scenarios {
		all, err := wiring.Settings(p.Experiment.Topology, s.DUT)
		if err != nil {
			return warnings, err
		}
		asked := tuning.Settings{
			IPSet: all.IPSet, Rules: all.Rules, Rules6: all.Rules6,
			RulesBackend: all.RulesBackend, NFT: all.NFT,
		}
		known := func(t tuning.Settings) bool { return reflect.DeepEqual(t, asked) }
		if len(asked.Tools()) == 0 || slices.ContainsFunc(tried, known) {
			continue
		}
		tried = append(tried, asked)
		if box == "" {
			if box, err = toolBox(); err != nil {
				return append(warnings, "the rules are not tried before the run: "+err.Error()), nil
			}
		}
		names := s.DUT.Interfaces(p.Experiment.Topology)
		links := []string{}
		for _, name := range names {
			links = append(links, name)
		}
		faults, err := preflight.Check(ctx, box, links, asked)
		if err != nil {
			return append(warnings, "the rules are not tried before the run: "+err.Error()), nil
		}
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

// toolBox makes a folder with this host's rule tools.
func toolBox() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "ctload-tools-"); err != nil {
		return "", err
	}
	folder, err = filepath.EvalSymlinks(folder)
	if err == nil {
		err = guest.WriteTools(folder, append(guest.DefaultTools(), "?ipset")...)
	}
	if err != nil {
		_ = os.RemoveAll(folder)
		return "", err
	}
	return folder, nil
}
