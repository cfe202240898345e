package tuning

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// Kernel is the running kernel as this process reaches it. The zero value is ready for use; PID 1,
// which runs children and loads modules in its own way, and tests set the fields.
type Kernel struct {
	// Run runs the tools; nil is [Exec].
	Run Runner
	// LoadModule loads a module and its dependencies; nil runs modprobe. Kernel calls it only for a
	// module that is neither loaded nor built in. Parameters have modprobe's form.
	LoadModule func(ctx context.Context, name string, parameters ...string) error
	// Whole makes LoadRules load each text in one transaction; an error of it may be [TooLarge].
	Whole bool
	// Proc and Sys are the mount points of procfs and sysfs; empty is /proc and /sys.
	Proc, Sys string
}

func (k Kernel) proc() string { return cmp.Or(k.Proc, "/proc") }
func (k Kernel) sys() string  { return cmp.Or(k.Sys, "/sys") }

func (k Kernel) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	late := fmt.Errorf("%s did not end within %s", name, toolLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, toolLimit, late)
	defer cancel()
	if k.Run == nil {
		return Exec(ctx, stdin, name, args...)
	}
	return k.Run(ctx, stdin, name, args...)
}

// conntrackLoaded reports whether the kernel has connection tracking, as a module or built in. Its
// parameters appear with it; conntrackLoaded looks for the module's own folder too, since kernels
// before 5.7 hide the parameters in network namespaces of other users.
func (k Kernel) conntrackLoaded() bool {
	_, noParameter := os.Stat(k.procSys("net/netfilter/nf_conntrack_count"))
	_, noFolder := os.Stat(filepath.Join(k.sys(), "module", kernels.Module))
	return noParameter == nil || noFolder == nil
}

// Runner runs a program to its end with stdin as its standard input and returns its standard
// output. When the program fails, the error holds its standard error (see [ToolError]). PID 1
// passes its own, so that its reaper does not take the child's status.
type Runner func(ctx context.Context, stdin, name string, args ...string) (stdout string, err error)

// ToolError reports a program that failed or could not be run.
type ToolError struct {
	Name   string
	Args   []string
	Stderr string
	Err    error // of os/exec
}

// Error returns the program, its end and its standard error.
func (e *ToolError) Error() string {
	line := strings.Join(append([]string{e.Name}, e.Args...), " ")
	if text := strings.TrimSpace(e.Stderr); text != "" {
		return fmt.Sprintf("%s: %v: %s%s", line, e.Err, text, cure(text))
	}
	return fmt.Sprintf("%s: %v", line, e.Err)
}

// cure adds to the words of a tool what they mean where they do not tell: in a network namespace
// of its own, nft gets a buffer of at most net.core.wmem_max for all its rules (some 500 by
// default); the kernel ignores the limit for root of the host alone.
func cure(said string) string {
	if strings.Contains(said, "Message too long") || strings.Contains(said, "No buffer space") {
		return " (the rules are more than net.core.wmem_max lets a namespace load at once; " +
			"fix: sudo sysctl -w net.core.wmem_max=16777216 on the host, or fewer rules)"
	}
	return ""
}

// Unwrap returns the end of the program.
func (e *ToolError) Unwrap() error { return e.Err }

// Exec runs a program as an ordinary process; it is a [Runner].
func Exec(ctx context.Context, stdin, name string, args ...string) (string, error) {
	return execute(ctx, exec.CommandContext(ctx, name, args...), stdin, name, args)
}

// execute runs a command that stands for a program and its arguments.
func execute(
	ctx context.Context, cmd *exec.Cmd, stdin, name string, args []string,
) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	// English error texts, whatever the machine's language.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// A grandchild that keeps the pipes open must not delay the return after the program has ended.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return stdout.String(), &ToolError{name, args, stderr.String(), err}
	}
	return stdout.String(), nil
}

// sysctlPath returns the path of a key below /proc/sys.
func sysctlPath(key string) (string, error) {
	canonical, _ := kernels.Key(key)
	path := kernels.SwapSeparators(canonical)
	// Two dots in a name become the parent folder: sysctlPath rejects paths outside /proc/sys.
	local := filepath.IsLocal(path) && filepath.Clean(path) == path
	if !local || strings.ContainsAny(path, " \t\n\x00") {
		return "", fmt.Errorf("sysctl %q: not the name of a kernel parameter", key)
	}
	return path, nil
}

// ReadSysctl returns the current value of a parameter, in any spelling that [kernels.Key] knows,
// without the surrounding white space.
func (k Kernel) ReadSysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(k.procSys(path))
	if err != nil {
		return "", k.explainSysctl(key, path, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// writeSysctl sets a key in one write, as the kernel expects it: a kernel may take the value,
// answer with a length that leaves out the line feed, and refuse a further write.
func (k Kernel) writeSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	fd, err := unix.Open(k.procSys(path), unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return k.explainSysctl(key, path, err)
	}
	_, err = unix.Write(fd, []byte(strings.TrimSpace(value)+"\n"))
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("set %s to %q: %w", key, value, err)
	}
	return nil
}

// explainSysctl says why a key could not be opened, for the reader of the report.
func (k Kernel) explainSysctl(key, path string, err error) error {
	switch info, statErr := os.Stat(k.procSys(path)); {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %s", fs.ErrNotExist, k.missingSysctl(path))
	case errors.Is(err, fs.ErrPermission) && statErr == nil && info.Mode().Perm()&0o222 == 0:
		err = fmt.Errorf("%w: read-only here; it belongs to the initial network namespace",
			fs.ErrPermission)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w: needs root in the namespace that owns it, and a writable /proc/sys",
			fs.ErrPermission)
	}
	return fmt.Errorf("sysctl %s: %w", key, err)
}

// missingSysctl names the nearest existing key, or what the kernel lacks.
func (k Kernel) missingSysctl(path string) string {
	folder, name := filepath.Split(path)
	parent := strings.TrimSuffix(kernels.SwapSeparators(folder), ".")
	entries, err := os.ReadDir(k.procSys(folder))
	if err != nil {
		return fmt.Sprintf("this kernel has no %s; is the module that makes it loaded?", parent)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if near := spelling.Nearest(name, names); near != "" {
		return "did you mean " + kernels.SwapSeparators(folder+near) + "?"
	}
	if strings.HasPrefix(name, kernels.Module) && !k.conntrackLoaded() {
		return "nf_conntrack is not loaded"
	}
	return "nothing of a like name in " + parent
}

func (k Kernel) procSys(path string) string { return filepath.Join(k.proc(), "sys", path) }

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
	wrong := func(p string) bool { return !moduleParameter.MatchString(p) }
	return moduleNamePattern.MatchString(name) && !slices.ContainsFunc(parameters, wrong)
}

// ParseModules parses the text of /proc/modules. A malformed line is an error.
func ParseModules(text string) ([]Module, error) {
	var modules []Module
	for line := range strings.Lines(text) {
		// nf_conntrack 188416 3 xt_conntrack,nf_nat,nft_ct, Live 0xffffffffc0a4e000
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 3 {
			return nil, fmt.Errorf("/proc/modules: fewer than three fields in %q", line)
		}
		size, err := strconv.ParseUint(fields[1], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("size of module %s: %w", fields[0], err)
		}
		module := Module{Name: fields[0], Size: int64(size), References: -1}
		if fields[2] != "-" { // a kernel that cannot unload modules
			references, err := strconv.ParseUint(fields[2], 10, 31)
			if err != nil {
				return nil, fmt.Errorf("references of module %s: %w", fields[0], err)
			}
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
	return modules, nil
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
	_, err := os.Stat(filepath.Join(k.sys(), "module", name))
	if err == nil || k.listedAsBuiltIn(name) {
		return ModuleBuilt
	}
	return ModuleAbsent
}

func (k Kernel) listedAsBuiltIn(name string) bool {
	list, err := os.ReadFile(filepath.Join("/lib/modules", k.release(), "modules.builtin"))
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

// Load loads a module and its dependencies, unless the kernel has it; parameters may follow the
// name, as in [Settings.LoadModules].
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
