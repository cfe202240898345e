package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ctload/ctload/internal/kernels"
)

// Store keeps kernels that it fetched by name. Any number of processes may share one. Its zero
// value is ready to use.
type Store struct {
	// Dir is the folder of the store; "" stands for $XDG_CACHE_HOME/ctload, or ~/.cache/ctload.
	Dir string
	// Progress, if set, is called during a fetch, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is the progress of a kernel's fetch.
type Progress struct {
	Kernel  string  // name of the kernel
	Stage   string  // "wait", "index", "download" or "unpack"
	Percent float64 // of this stage, 0 to 100
}

// fetchLimit bounds a fetch: apt ends a connection that stands still, not one that crawls.
const fetchLimit = 15 * time.Minute

// Kernel returns the kernel of a name, one of [KernelNames]. The first call fetches a
// distribution's kernel through the host's apt, which verifies it; later calls take it from the
// store, at once and without the network. The files stay in place as long as the store does.
//
// The error is an [UnknownKernelError] for an unknown name, and a [MissingError] for what the host
// lacks: apt, keys, a mirror, the network, space.
func (s *Store) Kernel(ctx context.Context, name string) (Kernel, error) {
	if name == kernels.HostName {
		return hostKernel()
	}
	d, suite, err := findDistribution(name)
	if err != nil {
		return Kernel{}, err
	}
	dir, err := s.dir()
	if err != nil {
		return Kernel{}, err
	}
	slot := &slot{dir: dir, name: name, key: strings.ReplaceAll(name, "/", "-")}
	if k, err := slot.current(); err == nil {
		return k, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, fmt.Errorf("not done after %v", fetchLimit))
	defer cancel()
	k, err := s.fill(ctx, slot, d, suite)
	if err != nil {
		return Kernel{}, fetchError(name, dir, d, err)
	}
	return k, nil
}

// dir returns the folder of kernels.
func (s *Store) dir() (string, error) {
	dir := s.Dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", &MissingError{What: "no folder to keep kernels in", Fix: "set XDG_CACHE_HOME or HOME", Err: err}
		}
		dir = filepath.Join(cache, "ctload")
	}
	dir, err := filepath.Abs(dir) // apt's settings need an absolute path
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kernels"), nil
}

// fill fetches a kernel under the lock of its slot, unless another process has done so meanwhile.
func (s *Store) fill(ctx context.Context, slot *slot, d *distribution, suite string) (k Kernel, err error) {
	report := func(stage string) func(float64) {
		return func(percent float64) {
			if s.Progress != nil {
				s.Progress(Progress{Kernel: slot.name, Stage: stage, Percent: percent})
			}
		}
	}
	unlock, err := slot.lock(ctx, report("wait"))
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if k, err := slot.current(); err == nil {
		return k, nil
	}
	host, err := hostSources("/etc/apt")
	if err != nil {
		return Kernel{}, err
	}
	archives, err := d.archives(ctx, suite, host)
	if err != nil {
		return Kernel{}, err
	}
	return slot.fetchFirst(ctx, archives, d.metaPackage(), report)
}

// fetchError adds the fix to the failure of a fetch.
func fetchError(name, dir string, d *distribution, err error) error {
	if _, ok := errors.AsType[*MissingError](err); ok || errors.Is(err, context.Canceled) {
		return fmt.Errorf("kernel %s: %w", name, err)
	}
	fix := "check the network and the host's apt sources, or set " + d.env + " to a mirror that answers"
	switch {
	case errors.Is(err, syscall.ENOSPC):
		fix = "free 500 MB there, or set XDG_CACHE_HOME to a folder with room"
	case errors.Is(err, fs.ErrPermission):
		fix = "make " + dir + " writable, or set XDG_CACHE_HOME to a folder that is"
	}
	return &MissingError{What: fmt.Sprintf("kernel %s cannot be fetched into %s", name, dir), Fix: fix, Err: err}
}

// slot is the place of one name in the store: a pointer KEY.json, which names the current entry,
// and the entries KEY_VERSION. Both appear by a rename: complete or not at all.
type slot struct{ dir, name, key string }

func (s *slot) pointer() string { return filepath.Join(s.dir, s.key+".json") }

// current reads the slot's kernel.
func (s *slot) current() (Kernel, error) {
	text, err := os.ReadFile(s.pointer())
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	if err := json.Unmarshal(text, &k); err != nil {
		return Kernel{}, fmt.Errorf("read %s: %w", s.pointer(), err)
	}
	return s.open(k)
}

// open checks that the files of a kernel exist. Its paths are relative to the store, which may be
// moved.
func (s *slot) open(k Kernel) (Kernel, error) {
	found, err := KernelFiles(filepath.Join(s.dir, k.Image), filepath.Join(s.dir, k.ModuleDir))
	if err != nil {
		return Kernel{}, err
	}
	k.Image, k.ModuleDir = found.Image, found.ModuleDir
	return k, nil
}

// entry returns the name of the folder of a version.
func (s *slot) entry(version string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune(".+~-", r) {
			return r
		}
		return '_'
	}, version)
	return s.key + "_" + safe
}
