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
	"strings"
	"time"

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
	// Proc and Sys are the mount points of procfs and sysfs; empty is /proc and /sys.
	Proc, Sys string
}

func (k Kernel) proc() string { return cmp.Or(k.Proc, "/proc") }
func (k Kernel) sys() string  { return cmp.Or(k.Sys, "/sys") }

func (k Kernel) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	if k.Run == nil {
		return Exec(ctx, stdin, name, args...)
	}
	return k.Run(ctx, stdin, name, args...)
}

// conntrackLoaded reports whether the kernel has connection tracking, as a module or built in. Its
// parameters appear with it; conntrackLoaded looks for the module's own folder too, since kernels
// before 5.7 hide the parameters in network namespaces of other users.
func (k Kernel) conntrackLoaded() bool {
	for _, path := range []string{
		k.procSys("net/netfilter/nf_conntrack_count"),
		filepath.Join(k.sys(), "module", kernels.Module),
	} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
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
		return fmt.Sprintf("%s: %v: %s", line, e.Err, text)
	}
	return fmt.Sprintf("%s: %v", line, e.Err)
}

// Unwrap returns the end of the program.
func (e *ToolError) Unwrap() error { return e.Err }

// Exec runs a program as an ordinary process; it is a [Runner].
func Exec(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	// English error texts, whatever the machine's language.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// A grandchild that keeps the pipes open must not delay the return after the program has ended.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return stdout.String(), &ToolError{Name: name, Args: args, Stderr: stderr.String(), Err: err}
	}
	return stdout.String(), nil
}

// sysctlPath returns the path of a key below /proc/sys.
func sysctlPath(key string) (string, error) {
	canonical, _ := kernels.Key(key)
	path := kernels.SwapSeparators(canonical)
	// Two dots in a name become the parent folder: sysctlPath rejects paths outside /proc/sys.
	if !filepath.IsLocal(path) || filepath.Clean(path) != path || strings.ContainsAny(path, " \t\n\x00") {
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

// writeSysctl sets a key in one write, as the kernel expects it.
func (k Kernel) writeSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(k.procSys(path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return k.explainSysctl(key, path, err)
	}
	_, err = file.WriteString(strings.TrimSpace(value) + "\n")
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("set %s to %q: %w", key, value, err)
	}
	return nil
}

// explainSysctl says why a key could not be opened, for the reader of the report.
func (k Kernel) explainSysctl(key, path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("sysctl %s: %w: %s", key, fs.ErrNotExist, k.missingSysctl(path))
	case errors.Is(err, fs.ErrPermission):
		if info, statErr := os.Stat(k.procSys(path)); statErr == nil && info.Mode().Perm()&0o222 == 0 {
			return fmt.Errorf("sysctl %s: %w: read-only here; such a key belongs to the initial network namespace", key, fs.ErrPermission)
		}
		return fmt.Errorf("sysctl %s: %w: needs root in the namespace that owns it, and a writable /proc/sys", key, fs.ErrPermission)
	}
	return fmt.Errorf("sysctl %s: %w", key, err)
}

// missingSysctl names the nearest existing key, or what the kernel lacks.
func (k Kernel) missingSysctl(path string) string {
	folder, name := filepath.Split(path)
	entries, err := os.ReadDir(k.procSys(folder))
	if err != nil {
		return fmt.Sprintf("this kernel has no %s; is the module that makes it loaded?", strings.TrimSuffix(kernels.SwapSeparators(folder), "."))
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
	return "nothing of a like name in " + strings.TrimSuffix(kernels.SwapSeparators(folder), ".")
}

func (k Kernel) procSys(path string) string { return filepath.Join(k.proc(), "sys", path) }
