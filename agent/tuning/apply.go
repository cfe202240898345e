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
