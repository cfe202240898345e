package tuning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// Apply makes the kernel as the settings ask, in the order that works: removed modules, loaded
// modules, the hash (its resizing stops all tracking for up to a fifth of a second, so it comes
// before anything is tracked), rules, parameters. Apply loads nf_conntrack if a setting needs it;
// loading it tracks nothing by itself.
//
// The first failed step ends it: the error names the step and holds the tool's message, and Apply
// rolls nothing back. Privilege: CAP_NET_ADMIN in the network namespace, root in the initial
// namespaces for modules, buckets and nf_conntrack_max.
func (k Kernel) Apply(ctx context.Context, s Settings) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for _, part := range []func(context.Context, Settings) error{
		k.applyRemovals, k.applyModules, k.applyBuckets, k.applySetup,
		func(ctx context.Context, s Settings) error { return k.LoadRules(ctx, s, false) },
		k.applyIPVS, k.applySysctl,
	} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// step changes the kernel through do unless ctx has ended; its error names what it was doing.
func step(ctx context.Context, what string, do func() error) error {
	err := ctx.Err()
	if err == nil {
		err = do()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (k Kernel) applyRemovals(ctx context.Context, s Settings) error {
	if len(s.RemoveModules) == 0 {
		return nil
	}
	err := step(ctx, "flush all rules", func() error { return k.FlushRules(ctx) })
	for _, name := range s.RemoveModules {
		if err != nil {
			break
		}
		err = step(ctx, "remove module "+name, func() error { return k.Remove(ctx, name) })
	}
	return err
}

func (k Kernel) applyModules(ctx context.Context, s Settings) error {
	names := slices.Clone(s.LoadModules)
	// Those that get parameters come first: another one may load them without.
	loading := kernels.Loading(names)
	plain := func(entry string) int {
		if len(strings.Fields(entry)) > 1 && slices.Contains(loading, entry) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(names, func(a, b string) int { return plain(a) - plain(b) })
	// A module with listed parameters is loaded in its turn: a loaded one would not get them.
	tracks := func(name string) bool { return moduleName(name) == kernels.Module }
	if s.needsConntrack() && !slices.ContainsFunc(names, tracks) && !k.conntrackLoaded() {
		names = append([]string{kernels.Module}, names...)
	}
	for _, name := range names {
		what := "load module " + strings.Join(strings.Fields(name), " ")
		if err := step(ctx, what, func() error { return k.Load(ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (k Kernel) applyBuckets(ctx context.Context, s Settings) error {
	if s.Buckets == 0 {
		return nil
	}
	what := fmt.Sprintf("set the hash to %d buckets", s.Buckets)
	return step(ctx, what, func() error { return k.setBuckets(s.Buckets) })
}

// setBuckets resizes the hash through the parameter that kernels since 4.8 have, else through the
// module's. Both refuse in any network namespace but the initial one.
func (k Kernel) setBuckets(buckets int) error {
	value := strconv.Itoa(buckets)
	err := k.writeSysctl(kernels.KeyBuckets, value)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	path := filepath.Join(k.sys(), "module", kernels.Module, "parameters", "hashsize")
	if writeErr := os.WriteFile(path, []byte(value), 0); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	return nil
}

func (k Kernel) applySetup(ctx context.Context, s Settings) error {
	for _, line := range s.Setup {
		words := strings.Fields(line)
		err := step(ctx, "run "+line, func() error {
			_, err := k.run(ctx, "", words[0], words[1:]...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// LoadRules loads rules as [Kernel.Apply] does; add keeps the present contents of iptables' tables.
func (k Kernel) LoadRules(ctx context.Context, s Settings, add bool) error {
	var flags []string
	if add {
		flags = append(flags, "--noflush")
	}
	for _, load := range []struct {
		what, text, tool string
		flags            []string
		parts            func(ctx context.Context, text, tool string, flags []string) error
	}{
		{"make the sets", s.IPSet, "ipset", []string{"restore"}, nil},
		{"load the IPv4 rules", s.Rules, s.tool("iptables", "restore"), flags, k.loadParts},
		{"load the IPv6 rules", s.Rules6, s.tool("ip6tables", "restore"), flags, k.loadParts},
		{"load the nft script", s.NFT, "nft", []string{"-f", "-"}, k.loadScripts},
	} {
		if load.text == "" {
			continue
		}
		err := step(ctx, load.what, func() error {
			_, err := k.run(ctx, terminated(load.text), load.tool, load.flags...)
			if load.parts != nil && !k.Whole && TooLarge(err) {
				err = load.parts(ctx, load.text, load.tool, load.flags)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if s.usesNFT() {
		return step(ctx, "count the packets that meet policies", func() error {
			return countPolicies(ctx)
		})
	}
	return nil
}

// usesNFT reports whether the rules of the settings are those of nf_tables.
func (s Settings) usesNFT() bool {
	return s.NFT != "" || (s.Rules != "" || s.Rules6 != "") && s.backend() == BackendNFT
}

// partLines limits the rules of a transaction in an ordinary user's namespace. The kernel does not
// let that user raise the buffer (SO_SNDBUFFORCE), which ends at some 500 rules.
const partLines = 200

// TooLarge reports whether a tool's transaction did not fit into the buffer of its socket.
func TooLarge(err error) bool {
	e, ok := errors.AsType[*ToolError](err)
	return ok && bufferFull.MatchString(e.Stderr)
}

var bufferFull = regexp.MustCompile(`Message too long|No buffer space available`)

// loadScripts loads a script of nft in parts.
func (k Kernel) loadScripts(ctx context.Context, text, tool string, flags []string) error {
	for _, part := range rules.NFTParts(text, partLines) {
		if _, err := k.run(ctx, part, tool, flags...); err != nil {
			return err
		}
	}
	return nil
}

// loadParts loads a text of iptables-save in parts: the chains of a table first, with the flags of
// the whole, then its other lines, in their order.
func (k Kernel) loadParts(ctx context.Context, text, tool string, whole []string) error {
	for _, t := range rules.Iptables("", text).Tables {
		var chains, others []string
		for _, line := range t.Lines {
			if line.Declares() != "" {
				chains = append(chains, line.Text)
			} else {
				others = append(others, line.Text)
			}
		}
		part, flags := chains, whole
		for {
			body := "*" + t.Name + "\n" + strings.Join(append(part, "COMMIT\n"), "\n")
			if _, err := k.run(ctx, body, tool, flags...); err != nil {
				return err
			}
			if len(others) == 0 {
				break
			}
			n := min(partLines, len(others))
			part, others, flags = slices.Clone(others[:n]), others[n:], []string{"--noflush"}
		}
	}
	return nil
}

// terminated ends the text with a line feed: iptables-restore overlooks a last line without one.
func terminated(text string) string { return strings.TrimSuffix(text, "\n") + "\n" }

// applySysctl writes all parameters, and returns all failures.
func (k Kernel) applySysctl(ctx context.Context, s Settings) error {
	if slices.ContainsFunc(s.Sysctl, aboutBridges) && !k.there("net/bridge") {
		if err := k.Load(ctx, bridgeModule); err != nil {
			return fmt.Errorf("load module %s: %w", bridgeModule, err)
		}
	}
	var errs []error
	for _, p := range k.expanded(s.Sysctl) {
		what := fmt.Sprintf("set %s to %s", p.Key, strings.TrimSpace(p.Value))
		err := step(ctx, what, func() error { return k.writeSysctl(p.Key, p.Value) })
		if !p.Optional || ctx.Err() != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bridgeModule has the parameters net.bridge.*, which a host has where it bridges and filters.
const bridgeModule = "br_netfilter"

func aboutBridges(p Sysctl) bool {
	key, _ := kernels.Key(p.Key)
	return strings.HasPrefix(key, "net.bridge.")
}

func (k Kernel) there(path string) bool {
	_, err := os.Stat(k.procSys(path))
	return err == nil
}

// expanded returns parameters under their canonical names, with those that patterns stand for: the
// ones that are not named themselves. It leaves out those without a value.
func (k Kernel) expanded(list []Sysctl) (all []Sysctl) {
	for _, p := range list {
		p.Key, _ = kernels.Key(p.Key)
		switch {
		case p.Value == "":
		case !isPattern(p.Key):
			all = append(all, p)
		default:
			root := k.procSys("")
			// A pattern that is malformed matches nothing.
			files, _ := filepath.Glob(filepath.Join(root, kernels.SwapSeparators(p.Key)))
			for _, file := range files {
				path, err := filepath.Rel(root, file)
				key := kernels.SwapSeparators(path)
				if err == nil && filepath.IsLocal(path) && !named(list, key) {
					all = append(all, Sysctl{Key: key, Value: p.Value, Optional: p.Optional})
				}
			}
		}
	}
	return all
}

// isPattern reports whether a key stands for several parameters.
func isPattern(key string) bool { return strings.ContainsAny(key, "*?[") }

// named reports whether a list has a key itself.
func named(list []Sysctl, key string) bool {
	return slices.ContainsFunc(list, func(p Sysctl) bool {
		canonical, _ := kernels.Key(p.Key)
		return canonical == key
	})
}

// families are the tools of iptables by address family, and the files below /proc that name the
// tables of their legacy backend.
var families = []struct{ tool, names string }{
	{"iptables", "net/ip_tables_names"},
	{"ip6tables", "net/ip6_tables_names"},
}

// FlushRules removes the rules of all tables of this network namespace: whole tables of nft and of
// iptables over nf_tables; of legacy iptables only the rules, while the policies of its chains
// stay.
func (k Kernel) FlushRules(ctx context.Context) error {
	loaded, err := k.modules()
	if err != nil {
		return err
	}
	var errs []error
	if k.hasNFT(loaded) {
		_, err := k.run(ctx, "", "nft", "flush", "ruleset")
		errs = append(errs, err)
	}
	for _, family := range families {
		tables, err := k.legacyTables(family.names)
		if len(tables) > 0 {
			_, err = k.run(ctx, emptied(tables, false), family.tool+"-legacy-restore")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// hasNFT reports whether the kernel has nf_tables, or does not show it, having no loadable modules.
func (k Kernel) hasNFT(loaded map[string]Module) bool {
	return loaded == nil || k.moduleState("nf_tables", loaded) != ModuleAbsent
}

// legacyTables returns the tables of legacy iptables in this namespace.
func (k Kernel) legacyTables(names string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(k.proc(), names))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the names of the tables: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// emptied returns the input with which iptables-legacy-restore empties tables.
func emptied(tables []string, policies bool) string {
	var b strings.Builder
	for _, table := range tables {
		b.WriteString(rules.Emptied(table, policies))
	}
	return b.String()
}

// The methods below are the parts of [Kernel.Apply] one by one, for changes of a kernel under load:
// each checks and loads nothing beyond its own part.

// WriteSysctl sets a parameter and verifies it by reading it back.
func (k Kernel) WriteSysctl(key, value string) error {
	canonical, _ := kernels.Key(key)
	if err := k.writeSysctl(canonical, value); err != nil {
		return err
	}
	now, err := k.ReadSysctl(canonical)
	if err != nil {
		return err
	}
	rounded := canonical == kernels.KeyBuckets && sameBuckets(value, now, bucketMultiple)
	if !sameValue(value, now) && !rounded {
		return fmt.Errorf("%s is %s, not %s as asked", canonical, now, strings.TrimSpace(value))
	}
	return nil
}

// ConntrackSysctls returns all writable parameters of connection tracking, except the size of the
// hash, with their values: those that are lost with the module.
func (k Kernel) ConntrackSysctls() ([]Sysctl, error) {
	entries, err := os.ReadDir(k.procSys("net/netfilter"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the parameters of connection tracking: %w", err)
	}
	var list []Sysctl
	for _, entry := range entries {
		key := "net.netfilter." + entry.Name()
		info, err := entry.Info()
		lost := strings.HasPrefix(key, kernels.Prefix) && key != kernels.KeyBuckets
		if err != nil || info.Mode().Perm()&0o222 == 0 || !lost {
			continue
		}
		value, err := k.ReadSysctl(key)
		if err != nil {
			return nil, err
		}
		list = append(list, Sysctl{Key: key, Value: value})
	}
	return list, nil
}

// ReadBuckets returns the size of the hash of connection tracking, 0 when that is not loaded.
func (k Kernel) ReadBuckets() (int64, error) { return k.readNumber(kernels.KeyBuckets, 0) }

// ReadCount returns the number of entries in the table of this network namespace, -1 when
// connection tracking is not loaded.
func (k Kernel) ReadCount() (int64, error) { return k.readNumber(kernels.KeyCount, -1) }

// readNumber returns the value of a parameter, or missing where the kernel does not have it.
func (k Kernel) readNumber(key string, missing int64) (int64, error) {
	text, err := k.ReadSysctl(key)
	if errors.Is(err, fs.ErrNotExist) {
		return missing, nil
	}
	if err != nil {
		return missing, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// SetBuckets resizes the hash of connection tracking, which stops all tracking meanwhile: 0.2 s for
// 200,000 entries under emulation. It needs Linux 4.8, or sets the module's parameter before.
// Initial network namespace only.
func (k Kernel) SetBuckets(buckets int) error {
	if err := k.setBuckets(buckets); err != nil {
		return err
	}
	now, err := k.ReadBuckets()
	if err != nil {
		return err
	}
	if kernels.RoundBuckets(int64(buckets), bucketMultiple) != now {
		return fmt.Errorf("the hash has %d buckets, not %d as asked", now, buckets)
	}
	return nil
}

// LoadedModules returns the names of the loaded modules, unsorted; none on a kernel without
// modules.
func (k Kernel) LoadedModules() ([]string, error) {
	loaded, err := k.modules()
	return slices.Collect(maps.Keys(loaded)), err
}

// ModuleState returns the state of a module.
func (k Kernel) ModuleState(name string) (ModuleState, error) {
	loaded, err := k.modules()
	if err != nil {
		return ModuleAbsent, err
	}
	return k.moduleState(name, loaded), nil
}

// unusedLimit bounds how long RemoveUnused waits for the users of modules: the kernel drops
// references from workers, after an RCU grace period.
const unusedLimit = 2 * time.Second

// RemoveUnused removes the modules that are loaded now, missing in before, and without a user: the
// kernel loaded them for rules or disciplines that are gone. It needs a kernel of the caller's own.
func (k Kernel) RemoveUnused(ctx context.Context, before []string) error {
	deadline := time.Now().Add(unusedLimit)
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		loaded, err := k.modules()
		if err != nil {
			return err
		}
		removed, left := false, false
		for name, module := range loaded {
			if slices.Contains(before, name) || slices.Contains(observers, name) {
				continue
			}
			left = true
			if module.References == 0 && unix.DeleteModule(name, unix.O_NONBLOCK) == nil {
				removed = true
			}
		}
		if !left || ctx.Err() != nil {
			return ctx.Err()
		}
		if removed {
			continue // the modules that it used may be free now
		}
		if time.Now().After(deadline) {
			return nil // they have users
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
