package tuning

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Module is a line of /proc/modules.
type Module struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
	// References counts the users: other modules, rules, open sockets; -1 when the kernel cannot
	// unload.
	References int      `json:"references"`
	UsedBy     []string `json:"used_by,omitempty"` // the modules among them
}

// ModuleState says whether the kernel has a module.
type ModuleState string

// The states of a module.
const (
	ModuleLoaded ModuleState = "loaded"
	ModuleBuilt  ModuleState = "built in"
	ModuleAbsent ModuleState = "absent"
)

var moduleNamePattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func validModuleName(name string) bool { return moduleNamePattern.MatchString(name) }

// moduleParameter matches one parameter in modprobe's form: enable_hooks, hashsize=4096.
var moduleParameter = regexp.MustCompile(`^[A-Za-z0-9_.-]+(=[^\s"'\x00]*)?$`)

// moduleName returns the name of a module to load, without its parameters, as the kernel writes it:
// modprobe accepts a dash for an underscore.
func moduleName(entry string) string {
	name, _ := splitModule(entry)
	return strings.ReplaceAll(name, "-", "_")
}

// splitModule splits an entry of [Settings.LoadModules] into name and parameters.
func splitModule(entry string) (name string, parameters []string) {
	words := strings.Fields(entry)
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

// validModule reports whether an entry of [Settings.LoadModules] is well formed.
func validModule(entry string) bool {
	name, parameters := splitModule(entry)
	return validModuleName(name) && !slices.ContainsFunc(parameters, func(p string) bool { return !moduleParameter.MatchString(p) })
}

// ParseModules parses the text of /proc/modules. A malformed line is an error.
func ParseModules(text string) ([]Module, error) {
	var modules []Module
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// nf_conntrack 188416 3 xt_conntrack,nf_nat,nft_ct, Live 0xffffffffc0a4e000
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 3 {
			return nil, fmt.Errorf("line %q of /proc/modules: fewer than three fields", lines.Text())
		}
		module := Module{Name: fields[0]}
		size, err := strconv.ParseUint(fields[1], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("size of module %s: %w", fields[0], err)
		}
		module.Size = int64(size)
		if fields[2] == "-" { // a kernel that cannot unload modules
			module.References = -1
		} else if references, err := strconv.ParseUint(fields[2], 10, 31); err != nil {
			return nil, fmt.Errorf("references of module %s: %w", fields[0], err)
		} else {
			module.References = int(references)
		}
		if len(fields) > 3 && fields[3] != "-" {
			for name := range strings.SplitSeq(fields[3], ",") {
				// [permanent] marks a module that has no exit function.
				if name != "" && !strings.HasPrefix(name, "[") {
					module.UsedBy = append(module.UsedBy, name)
				}
			}
		}
		modules = append(modules, module)
	}
	return modules, lines.Err()
}

// modules returns the loaded modules by name; none on a kernel without loadable modules.
func (k Kernel) modules() (map[string]Module, error) {
	text, err := os.ReadFile(filepath.Join(k.proc(), "modules"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of modules: %w", err)
	}
	list, err := ParseModules(string(text))
	if err != nil {
		return nil, err
	}
	modules := make(map[string]Module, len(list))
	for _, module := range list {
		modules[module.Name] = module
	}
	return modules, nil
}

// moduleState looks for a module among the loaded ones, then among the built-in ones: /sys/module
// lists a built-in one if it has parameters, modules.builtin if it is installed.
func (k Kernel) moduleState(name string, loaded map[string]Module) ModuleState {
	name = moduleName(name)
	if _, ok := loaded[name]; ok {
		return ModuleLoaded
	}
	if _, err := os.Stat(filepath.Join(k.sys(), "module", name)); err == nil {
		return ModuleBuilt
	}
	if k.listedAsBuiltIn(name) {
		return ModuleBuilt
	}
	return ModuleAbsent
}

func (k Kernel) listedAsBuiltIn(name string) bool {
	release, err := os.ReadFile(k.procSys("kernel/osrelease"))
	if err != nil {
		return false
	}
	list, err := os.ReadFile(filepath.Join("/lib/modules", strings.TrimSpace(string(release)), "modules.builtin"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) {
		// kernel/net/netfilter/nf_conntrack.ko
		file := strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko")
		if moduleName(file) == name {
			return true
		}
	}
	return false
}

// Load loads a module and its dependencies, unless the kernel has it; parameters may follow the name,
// as in [Settings.LoadModules].
func (k Kernel) Load(ctx context.Context, entry string) error {
	_, parameters := splitModule(entry)
	name := moduleName(entry)
	loaded, err := k.modules()
	if err != nil {
		return err
	}
	if k.moduleState(name, loaded) != ModuleAbsent {
		return nil
	}
	if k.LoadModule != nil {
		err = k.LoadModule(ctx, name, parameters...)
	} else {
		_, err = k.run(ctx, "", "modprobe", append([]string{"--", name}, parameters...)...)
	}
	if err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// removeLimit bounds how long a module may stay busy after its last user has gone: nf_tables
// drops the references of deleted rules from a kernel worker, after an RCU grace period.
const removeLimit = 10 * time.Second

// Remove removes a module after those that depend on it. It must have no other users: remove rules
// first. A module that is not loaded is no error.
func (k Kernel) Remove(ctx context.Context, name string) error {
	name = moduleName(name)
	loaded, err := k.modules()
	if err != nil {
		return err
	}
	switch k.moduleState(name, loaded) {
	case ModuleAbsent:
		return nil
	case ModuleBuilt:
		return fmt.Errorf("remove module %s: it is built into this kernel", name)
	}
	for _, user := range loaded[name].UsedBy {
		if err := k.Remove(ctx, user); err != nil {
			return fmt.Errorf("remove module %s: %w", name, err)
		}
	}
	if err := DeleteModule(ctx, name, removeLimit); err != nil {
		return fmt.Errorf("remove module %s: %w", name, err)
	}
	return nil
}

// DeleteModule removes a module that no other one uses from the running kernel, and waits up to
// limit while it is in use. A module that is not loaded is no error. It needs CAP_SYS_MODULE;
// name has underscores.
func DeleteModule(ctx context.Context, name string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		// O_NONBLOCK fails at once for a module in use; current kernels have no other way.
		err := unix.DeleteModule(name, unix.O_NONBLOCK)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("still in use: %w", errors.Join(err, ctx.Err()))
		}
	}
}
