package tuning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		k.applyRemovals, k.applyModules, k.applyBuckets, k.applyRules, k.applyIPVS, k.applySysctl,
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
	if err := step(ctx, "flush all rules", func() error { return k.flush(ctx) }); err != nil {
		return err
	}
	for _, name := range s.RemoveModules {
		if err := step(ctx, "remove module "+moduleName(name), func() error { return k.remove(ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (k Kernel) applyModules(ctx context.Context, s Settings) error {
	names := s.LoadModules
	// A module with listed parameters is loaded in its turn: one that is already loaded would not
	// get them.
	listed := slices.ContainsFunc(names, func(name string) bool { return moduleName(name) == kernels.Module })
	if s.needsConntrack() && !listed && !k.conntrackLoaded() {
		names = append([]string{kernels.Module}, names...)
	}
	for _, name := range names {
		err := step(ctx, "load module "+strings.Join(strings.Fields(name), " "), func() error {
			return k.load(ctx, name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k Kernel) applyBuckets(ctx context.Context, s Settings) error {
	if s.Buckets == 0 {
		return nil
	}
	return step(ctx, fmt.Sprintf("set the hash to %d buckets", s.Buckets), func() error { return k.setBuckets(s.Buckets) })
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
	file, openErr := os.OpenFile(path, os.O_WRONLY, 0)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	_, writeErr := file.WriteString(value)
	if writeErr = errors.Join(writeErr, file.Close()); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	return nil
}

func (k Kernel) applyRules(ctx context.Context, s Settings) error {
	for _, load := range []struct{ what, text, tool string }{
		{"load the IPv4 rules", s.Rules, s.tool("iptables", "restore")},
		{"load the IPv6 rules", s.Rules6, s.tool("ip6tables", "restore")},
	} {
		if load.text == "" {
			continue
		}
		err := step(ctx, load.what, func() error {
			_, err := k.run(ctx, terminated(load.text), load.tool)
			return err
		})
		if err != nil {
			return err
		}
	}
	if s.NFT == "" {
		return nil
	}
	return step(ctx, "load the nft script", func() error {
		_, err := k.run(ctx, terminated(s.NFT), "nft", "-f", "-")
		return err
	})
}

// terminated ends the text with a line feed: iptables-restore overlooks a last line without one.
func terminated(text string) string {
	if strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

func (k Kernel) applySysctl(ctx context.Context, s Settings) error {
	for _, p := range s.Sysctl {
		key, _ := kernels.Key(p.Key)
		what := fmt.Sprintf("set %s to %s", key, strings.TrimSpace(p.Value))
		if err := step(ctx, what, func() error { return k.writeSysctl(key, p.Value) }); err != nil {
			return err
		}
	}
	return nil
}

// flush removes the rules of both backends from the network namespace.
func (k Kernel) flush(ctx context.Context) error {
	loaded, err := k.modules()
	if err != nil {
		return err
	}
	var errs []error
	if k.moduleState("nf_tables", loaded) != ModuleAbsent {
		if _, err := k.run(ctx, "", "nft", "flush", "ruleset"); err != nil {
			errs = append(errs, err)
		}
	}
	for _, family := range []struct{ names, tool string }{
		{"net/ip_tables_names", "iptables-legacy-restore"},
		{"net/ip6_tables_names", "ip6tables-legacy-restore"},
	} {
		text, err := k.emptyTables(family.names)
		if err != nil {
			errs = append(errs, err)
		}
		if text == "" {
			continue
		}
		if _, err := k.run(ctx, text, family.tool); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// emptyTables returns the input with which iptables-legacy-restore empties each existing table.
func (k Kernel) emptyTables(names string) (string, error) {
	text, err := os.ReadFile(filepath.Join(k.proc(), names))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the names of the tables: %w", err)
	}
	var b strings.Builder
	for table := range strings.FieldsSeq(string(text)) {
		b.WriteString(rules.Emptied(table, false))
	}
	return b.String(), nil
}

// The methods below are the parts of [Kernel.Apply] one by one, for changes of a kernel under load:
// each checks and loads nothing beyond its own part.

// ReadSysctl returns the current value of a parameter, in any spelling that [kernels.Key] knows.
func (k Kernel) ReadSysctl(key string) (string, error) {
	canonical, _ := kernels.Key(key)
	return k.readSysctl(canonical)
}

// WriteSysctl sets a parameter and verifies it by reading it back.
func (k Kernel) WriteSysctl(key, value string) error {
	canonical, _ := kernels.Key(key)
	if err := k.writeSysctl(canonical, value); err != nil {
		return err
	}
	now, err := k.readSysctl(canonical)
	if err != nil {
		return err
	}
	if !sameValue(value, now) && !(canonical == kernels.KeyBuckets && sameBuckets(value, now, bucketMultiple)) {
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
		if err != nil || info.Mode().Perm()&0o222 == 0 || !strings.HasPrefix(key, kernels.Prefix) || key == kernels.KeyBuckets {
			continue
		}
		value, err := k.readSysctl(key)
		if err != nil {
			return nil, err
		}
		list = append(list, Sysctl{Key: key, Value: value})
	}
	return list, nil
}

// ReadBuckets returns the size of the hash of connection tracking, 0 when that is not loaded.
func (k Kernel) ReadBuckets() (int, error) {
	text, err := k.readSysctl(kernels.KeyBuckets)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
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
	if kernels.RoundBuckets(int64(buckets), bucketMultiple) != int64(now) {
		return fmt.Errorf("the hash has %d buckets, not %d as asked", now, buckets)
	}
	return nil
}

// ReadCount returns the number of entries in the table of this network namespace, -1 when
// connection tracking is not loaded.
func (k Kernel) ReadCount() (int64, error) {
	text, err := k.readSysctl(kernels.KeyCount)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// LoadedModules returns the names of the loaded modules, unsorted; none on a kernel without
// modules.
func (k Kernel) LoadedModules() ([]string, error) {
	loaded, err := k.modules()
	names := make([]string, 0, len(loaded))
	for name := range loaded {
		names = append(names, name)
	}
	return names, err
}

// ModuleState returns the state of a module.
func (k Kernel) ModuleState(name string) (ModuleState, error) {
	loaded, err := k.modules()
	if err != nil {
		return ModuleAbsent, err
	}
	return k.moduleState(name, loaded), nil
}

// Load loads a module and its dependencies, unless the kernel has it.
func (k Kernel) Load(ctx context.Context, name string) error { return k.load(ctx, name) }

// Remove removes a module after those that depend on it. It must have no other users: remove rules
// first.
func (k Kernel) Remove(ctx context.Context, name string) error { return k.remove(ctx, name) }

// unusedLimit bounds how long RemoveUnused waits for the users of modules: the kernel drops
// references from workers, after an RCU grace period.
const unusedLimit = 2 * time.Second

// RemoveUnused removes the modules that are loaded now, missing in before, and without a user:
// those that the kernel has loaded for rules or disciplines that are gone. It needs a kernel of the
// caller's own.
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

// FlushRules removes the rules of all tables of this network namespace: whole tables of nft and of
// iptables over nf_tables; of legacy iptables only the rules, while the policies of its chains
// stay.
func (k Kernel) FlushRules(ctx context.Context) error {
	tables, err := k.nftChains(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if tables != "" {
		_, err := k.run(ctx, "", "nft", "flush", "ruleset")
		errs = append(errs, err)
	}
	for _, family := range []struct{ names, tool string }{
		{"net/ip_tables_names", "iptables-legacy-restore"},
		{"net/ip6_tables_names", "ip6tables-legacy-restore"},
	} {
		text, err := k.emptyTables(family.names)
		if err == nil && text != "" {
			_, err = k.run(ctx, text, family.tool)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
