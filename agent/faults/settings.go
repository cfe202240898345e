package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
)

// sysctl sets parameters, each a part of its own.
func (s *Set) sysctl(_ context.Context, f Fault) (*change, error) {
	k := s.node.Kernel
	c := &change{}
	for _, asked := range f.Sysctl {
		key, _ := kernels.Key(asked.Key)
		// A parameter outside net. belongs to the host of a namespace.
		if !s.node.Own && !strings.HasPrefix(key, "net.") {
			return nil, &hostError{key}
		}
		before, err := k.ReadSysctl(key)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, s.parameter(key, before))
	}
	c.do = func(context.Context) error {
		for _, asked := range f.Sysctl {
			if err := k.WriteSysctl(asked.Key, asked.Value); err != nil {
				return err
			}
		}
		return nil
	}
	return c, nil
}

// parameter returns the part of one parameter. One that has gone with its module needs no
// restoring.
func (s *Set) parameter(key, before string) *part {
	k := s.node.Kernel
	read := func(context.Context) (string, error) {
		value, err := k.ReadSysctl(key)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return value, err
	}
	return &part{subject: key, read: read, restore: func(ctx context.Context) error {
		if now, err := read(ctx); err != nil || now == before || now == "" {
			return err
		}
		return k.WriteSysctl(key, before)
	}}
}

// hash returns the part of the size of the hash, which old kernels set through the module.
func (s *Set) hash(before int64) *part {
	k := s.node.Kernel
	p := s.parameter(kernels.KeyBuckets, strconv.FormatInt(before, 10))
	p.restore = func(context.Context) error {
		if now, err := k.ReadBuckets(); err != nil || now == before || now == 0 {
			return err
		}
		return k.SetBuckets(int(before))
	}
	return p
}

// buckets resizes the hash.
func (s *Set) buckets(_ context.Context, f Fault) (*change, error) {
	before, err := s.node.Kernel.ReadBuckets()
	if err != nil {
		return nil, err
	}
	if before == 0 {
		return nil, errors.New("connection tracking is not loaded")
	}
	return &change{
		parts: []*part{s.hash(before)},
		do:    func(context.Context) error { return s.node.Kernel.SetBuckets(f.Buckets) },
	}, nil
}

func checkSysctl(f Fault) error {
	if len(f.Sysctl) == 0 {
		return errors.New("no parameter is given")
	}
	return tuning.Settings{Sysctl: f.Sysctl}.Validate()
}

func checkBuckets(f Fault) error {
	if f.Buckets <= 0 {
		return fmt.Errorf("%d buckets: not a size", f.Buckets)
	}
	return nil
}

// rulesPart returns the part of the present rules.
func (s *Set) rulesPart(ctx context.Context) (*part, error) {
	k := s.node.Kernel
	before, err := k.SaveRules(ctx)
	if err != nil {
		return nil, err
	}
	restore, err := s.unloading(func(ctx context.Context) error {
		if err := k.RestoreRules(ctx, before); err != nil {
			return err
		}
		same := func(now tuning.SavedRules) error { return sameRules(before, now) }
		return s.checkSaved(ctx, same)
	})
	return &part{
		subject: "rules", // all of the node's, since a change of some may touch any
		read: func(ctx context.Context) (string, error) {
			now, err := k.SaveRules(ctx)
			return now.Text(), err
		},
		restore: restore,
	}, err
}

// sameRules returns an error when the rules differ from those of before, except by empty tables.
func sameRules(before, now tuning.SavedRules) error {
	was, is := before.Rules(), now.Rules()
	if slices.Equal(was, is) {
		return nil
	}
	lines := func(rules []string) string { return strings.Join(rules, "\n") }
	return fmt.Errorf("the rules were\n%s\nand are\n%s", lines(was), lines(is))
}

// loadRules loads rules with the real tools.
func (s *Set) loadRules(ctx context.Context, f Fault) (*change, error) {
	k := s.node.Kernel
	rules, err := s.rulesPart(ctx)
	if err != nil {
		return nil, err
	}
	asked := settings(f.Rules)
	return &change{parts: []*part{rules}, do: func(ctx context.Context) error {
		return k.LoadRules(ctx, asked, f.Rules.Add)
	}, check: func(ctx context.Context) error {
		if f.Rules.Add { // the former rules are in the same chains
			asked.Rules, asked.Rules6 = "", ""
		}
		return s.checkSaved(ctx, func(now tuning.SavedRules) error {
			if differences := now.Differences(asked); len(differences) > 0 {
				return errors.New(strings.Join(differences, "; "))
			}
			return nil
		})
	}}, nil
}

// removeRules removes all rules.
func (s *Set) removeRules(ctx context.Context, _ Fault) (*change, error) {
	k := s.node.Kernel
	rules, err := s.rulesPart(ctx)
	if err != nil {
		return nil, err
	}
	return &change{parts: []*part{rules}, do: k.FlushRules, check: func(ctx context.Context) error {
		return s.checkSaved(ctx, func(now tuning.SavedRules) error {
			if rules := now.Rules(); len(rules) > 0 {
				return fmt.Errorf("there are rules still: %s", strings.Join(rules, "; "))
			}
			return nil
		})
	}}, nil
}

// checkSaved passes the present rules to check.
func (s *Set) checkSaved(ctx context.Context, check func(tuning.SavedRules) error) error {
	now, err := s.node.Kernel.SaveRules(ctx)
	if err != nil {
		return err
	}
	return check(now)
}

// removeModules removes the rules, which hold references, and then modules.
func (s *Set) removeModules(ctx context.Context, f Fault) (*change, error) {
	k := s.node.Kernel
	for _, name := range modulesOf(f) {
		state, err := k.ModuleState(name)
		if err != nil {
			return nil, err
		}
		if state != tuning.ModuleLoaded {
			return nil, fmt.Errorf("module %s is %s: there is nothing to remove", name, state)
		}
	}
	c := &change{}
	// Restoring runs in the other order: modules, rules, parameters.
	parameters, err := k.ConntrackSysctls()
	if err != nil {
		return nil, err
	}
	for _, p := range parameters {
		part := s.parameter(p.Key, p.Value)
		part.read = nil // all of them go with the module
		c.parts = append(c.parts, part)
	}
	if buckets, err := k.ReadBuckets(); err != nil {
		return nil, err
	} else if buckets > 0 {
		c.parts = append(c.parts, s.hash(buckets))
	}
	rules, err := s.rulesPart(ctx)
	if err != nil {
		return nil, err
	}
	modules, err := s.modulesPart()
	if err != nil {
		return nil, err
	}
	c.parts = append(c.parts, rules, modules)
	c.do = func(ctx context.Context) error {
		if err := k.FlushRules(ctx); err != nil {
			return err
		}
		for _, name := range modulesOf(f) {
			if err := k.Remove(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
	return c, nil
}

// modulesPart returns the part of the loaded modules.
func (s *Set) modulesPart() (*part, error) {
	k := s.node.Kernel
	before, err := k.LoadedModules()
	if err != nil {
		return nil, err
	}
	slices.Sort(before)
	return &part{
		subject: "modules",
		read: func(context.Context) (string, error) {
			now, err := k.LoadedModules()
			slices.Sort(now)
			return strings.Join(now, " "), err
		},
		restore: func(ctx context.Context) error {
			for _, name := range before {
				if err := k.Load(ctx, name); err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}

func checkRules(f Fault) error {
	if f.Rules.IPv4+f.Rules.IPv6+f.Rules.NFT == "" {
		return errors.New("no rules are given")
	}
	return settings(f.Rules).Validate()
}

func checkModules(f Fault) error {
	return tuning.Settings{RemoveModules: modulesOf(f)}.Validate()
}

func modulesOf(f Fault) []string {
	if len(f.Modules) == 0 {
		return []string{"nf_conntrack"}
	}
	return f.Modules
}

func settings(r Rules) tuning.Settings {
	return tuning.Settings{Rules: r.IPv4, Rules6: r.IPv6, NFT: r.NFT, RulesBackend: r.Backend}
}
