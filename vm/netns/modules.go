package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/sandbox"
)

// moduleKernel holds the modules of the host's kernel. All its names have underscores.
type moduleKernel interface {
	// loaded returns the loaded modules by name; fs.ErrNotExist on a kernel without modules.
	loaded() (map[string]tuning.Module, error)
	// needs returns a module and what it needs, in the order of loading.
	needs(ctx context.Context, name string) ([]string, error)
	// parameters returns the parameters of a loaded module, as modprobe takes them.
	parameters(name string) []string
	load(ctx context.Context, name string, parameters []string) error
	// remove removes a module that has no user.
	remove(ctx context.Context, name string) error
}

// hostModules is this host's kernel; tests on a kernel without modules replace it.
var hostModules moduleKernel = modprobe{}

// The state of a module before a change, as in the journal; then come a loaded one's parameters.
const (
	wasAbsent = "absent"
	wasLoaded = "loaded"
)

// kernelName returns a module's name as the kernel writes it.
func kernelName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// moduleChanges lists the changes of modules that settings require, a phrase each. Modules belong
// to the whole kernel. (The kernel itself loads what a rule needs when the rule comes.)
func moduleChanges(s tuning.Settings) []string {
	var list []string
	for _, name := range s.RemoveModules {
		if hasModule(name) {
			list = append(list, "module "+name+" removed")
		}
	}
	for _, entry := range s.LoadModules {
		name, parameters, _ := strings.Cut(strings.TrimSpace(entry), " ")
		if !hasModule(name) || parameters != "" {
			list = append(list, "module "+entry+" loaded")
		}
	}
	return list
}

// hasModule reports whether the kernel has a module now, loaded or built in.
func hasModule(name string) bool {
	state, err := tuning.Kernel{}.ModuleState(name)
	return err == nil && state != tuning.ModuleAbsent
}

// CheckModules returns why the modules of settings cannot come or go on this host; nil when they
// can, as far as can be known before an attempt.
func CheckModules(ctx context.Context, s tuning.Settings) error {
	changes := moduleChanges(s)
	if len(changes) == 0 {
		return nil
	}
	loaded, err := hostModules.loaded()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this kernel has no loadable modules (%s)", strings.Join(changes, ", "))
	}
	if err != nil {
		return err
	}
	for _, name := range s.RemoveModules {
		if _, there := loaded[kernelName(name)]; !there && hasModule(name) {
			return fmt.Errorf("module %s cannot be removed: it is built into this kernel", name)
		}
	}
	for _, entry := range s.LoadModules {
		name, parameters, _ := strings.Cut(strings.TrimSpace(entry), " ")
		switch there := hasModule(name); {
		case there && parameters != "":
			return fmt.Errorf("module %s is there already, and does not get %s", name, parameters)
		case there:
			continue
		}
		if _, err := hostModules.needs(ctx, kernelName(name)); err != nil {
			return fmt.Errorf("module %s cannot be loaded: %w", name, err)
		}
	}
	return nil
}

// removeModule removes a module of the host, after the modules that use it. The host's rules stay;
// a module that they use is an error. The parameters of connection tracking go with it; the run
// restores them with the module, in the host's own namespace alone.
func (s *Settings) removeModule(ctx context.Context, name string) error {
	loaded, err := hostModules.loaded()
	if err != nil {
		return fmt.Errorf("remove module %s of the host: %w", name, err)
	}
	for _, each := range usersFirst(loaded, kernelName(name), nil) {
		if each == kernels.Module {
			if err := s.recordTracking(); err != nil {
				return err
			}
		}
		before := strings.Join(append([]string{wasLoaded}, hostModules.parameters(each)...), " ")
		if err := s.record(journal.HostModule, each, before); err != nil {
			return err
		}
		if err := hostModules.remove(ctx, each); err != nil {
			return fmt.Errorf("remove module %s of the host: %w", each, err)
		}
	}
	return nil
}

// usersFirst returns the users of a module, and the module last; none when it is not loaded.
func usersFirst(loaded map[string]tuning.Module, name string, sofar []string) []string {
	module, there := loaded[name]
	if !there || slices.Contains(sofar, name) {
		return sofar
	}
	for _, user := range module.UsedBy {
		sofar = usersFirst(loaded, user, sofar)
	}
	return append(sofar, name)
}

// recordTracking notes every parameter of the host's connection tracking.
func (s *Settings) recordTracking() error {
	var list []tuning.Sysctl
	err := sandbox.OnHost(func() (err error) {
		list, err = tuning.Kernel{}.ConntrackSysctls()
		return err
	})
	if err != nil {
		return err
	}
	buckets, err := readHost(kernels.KeyBuckets)
	if err != nil {
		return err
	}
	for _, p := range append(list, tuning.Sysctl{Key: kernels.KeyBuckets, Value: buckets}) {
		if err := s.record(journal.HostSetting, p.Key, strings.TrimSpace(p.Value)); err != nil {
			return err
		}
	}
	return nil
}

// loadModule loads a module, after those that it needs, unless the host's kernel has it.
func (s *Settings) loadModule(ctx context.Context, entry string) (err error) {
	words := strings.Fields(entry)
	name := kernelName(words[0])
	if hasModule(name) {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("load module %s into the host's kernel: %w", name, err)
		}
	}()
	loaded, err := hostModules.loaded()
	if err != nil {
		return err
	}
	needs, err := hostModules.needs(ctx, name)
	if err != nil {
		return err
	}
	for _, each := range needs {
		if _, there := loaded[each]; there {
			continue
		}
		if err := s.record(journal.HostModule, each, wasAbsent); err != nil {
			return err
		}
	}
	return hostModules.load(ctx, name, words[1:])
}

// moduleChanged reports whether a module differs from its recorded state.
func moduleChanged(e journal.Entry) (bool, error) {
	loaded, err := hostModules.loaded()
	_, there := loaded[e.Name]
	return there == (e.Detail == wasAbsent), err
}

// putModuleBack loads a removed module, with its parameters, or removes a loaded one.
func putModuleBack(ctx context.Context, e journal.Entry) error {
	changed, err := moduleChanged(e)
	switch {
	case err != nil || !changed:
	case e.Detail == wasAbsent:
		err = hostModules.remove(ctx, e.Name)
	default:
		err = hostModules.load(ctx, e.Name, strings.Fields(e.Detail)[1:])
	}
	if err != nil {
		return fmt.Errorf("put module %s back, which was %s: %w", e.Name, e.Detail, err)
	}
	return nil
}

// modprobe is this host's kernel, through modprobe(8).
type modprobe struct{}

func (modprobe) loaded() (map[string]tuning.Module, error) {
	text, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil, err
	}
	list, err := tuning.ParseModules(string(text))
	if err != nil {
		return nil, err
	}
	modules := map[string]tuning.Module{}
	for _, m := range list {
		modules[m.Name] = m
	}
	return modules, nil
}

// needs asks modprobe, which prints lines of "insmod PATH PARAMETERS" or "builtin NAME".
func (modprobe) needs(ctx context.Context, name string) ([]string, error) {
	out, err := tuning.Exec(ctx, "", "modprobe", "--show-depends", "--", name)
	if err != nil {
		return nil, err
	}
	return parseDepends(out), nil
}

func parseDepends(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "insmod" {
			continue
		}
		file, _, _ := strings.Cut(filepath.Base(words[1]), ".ko")
		names = append(names, kernelName(file))
	}
	return names
}

// parameters reads /sys/module, without values that are empty or have blanks.
func (modprobe) parameters(name string) []string {
	files, _ := filepath.Glob(filepath.Join("/sys/module", name, "parameters", "*"))
	var list []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		value := strings.TrimSpace(string(text))
		if err != nil || value == "" || value == "(null)" || strings.ContainsAny(value, " \t\n") {
			continue
		}
		list = append(list, filepath.Base(file)+"="+value)
	}
	return list
}

func (modprobe) load(ctx context.Context, name string, parameters []string) error {
	_, err := tuning.Exec(ctx, "", "modprobe", append([]string{"--", name}, parameters...)...)
	return err
}

// busyLimit bounds how long a module may stay busy: the kernel removes the namespaces of a
// trial later, and with them the rules that hold the module.
const busyLimit = 10 * time.Second

func (modprobe) remove(ctx context.Context, name string) error {
	return tuning.DeleteModule(ctx, name, busyLimit)
}
