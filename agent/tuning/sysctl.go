package tuning

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

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

// readSysctl returns the current value of a key without the surrounding white space.
func (k Kernel) readSysctl(key string) (string, error) {
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
