package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
)

// Store keeps fetched kernels. Any number of processes may share one. Its zero value is ready.
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
// store, at once and without the network. A kernel whose files are damaged is fetched again. The
// files stay in place as long as the store does.
//
// The error is an [UnknownKernelError] for an unknown name, and a [MissingError] for what the host
// lacks: apt, keys, a mirror, the network, space.
func (s *Store) Kernel(ctx context.Context, name string) (Kernel, error) {
	if name == kernels.HostName {
		return hostKernel()
	}
	d, suite, err := findDistro(name)
	if err != nil {
		return Kernel{}, err
	}
	dir, err := s.dir()
	if err != nil {
		return Kernel{}, err
	}
	slot := &slot{dir, name, strings.ReplaceAll(name, "/", "-"), s.Progress}
	k, unfit := slot.current()
	if unfit == nil {
		return k, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit,
		fmt.Errorf("not done after %v", fetchLimit))
	defer cancel()
	if k, err = slot.fill(ctx, d, suite); err != nil {
		if damaged, ok := errors.AsType[*damagedError](unfit); ok {
			err = fmt.Errorf("%w; to fetch it again: %w", damaged, err)
		}
		return Kernel{}, slot.fetchError(d, err)
	}
	return k, nil
}

// dir returns the folder of kernels.
func (s *Store) dir() (string, error) {
	dir := s.Dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", Missing("set XDG_CACHE_HOME or HOME", "no folder for kernels: %w", err)
		}
		dir = filepath.Join(cache, "ctload")
	}
	dir, err := filepath.Abs(dir) // apt's settings need an absolute path
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kernels"), nil
}

// slot is the place of one name in the store: a pointer KEY.json, which names the current entry,
// and the entries KEY_VERSION. Both appear by a rename: complete or not at all.
type slot struct {
	dir, name, key string
	progress       func(Progress) // may be nil
}

// report returns a function that reports the progress of a stage in percent.
func (s *slot) report(stage string) func(float64) {
	return func(percent float64) {
		if s.progress != nil {
			s.progress(Progress{Kernel: s.name, Stage: stage, Percent: percent})
		}
	}
}

// fill fetches a kernel under the slot's lock, unless another process has done so meanwhile.
func (s *slot) fill(ctx context.Context, d *distro, suite string) (_ Kernel, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if k, err := s.current(); err == nil {
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
	return s.fetchFirst(ctx, archives, d)
}

// fetchError adds the fix to the failure of a fetch.
func (s *slot) fetchError(d *distro, err error) error {
	if _, ok := errors.AsType[*MissingError](err); ok || errors.Is(err, context.Canceled) {
		return fmt.Errorf("kernel %s: %w", s.name, err)
	}
	fix := "check the network and apt's sources, or set " + d.env + " to a mirror that answers"
	switch {
	case errors.Is(err, syscall.ENOSPC):
		fix = "free 500 MB there, or set XDG_CACHE_HOME to a folder with room"
	case errors.Is(err, fs.ErrPermission):
		fix = "make " + s.dir + " writable, or set XDG_CACHE_HOME to a folder that is"
	}
	return Missing(fix, "kernel %s cannot be fetched into %s: %w", s.name, s.dir, err)
}

func (s *slot) pointer() string { return filepath.Join(s.dir, s.key+".json") }

// current reads the slot's kernel.
func (s *slot) current() (Kernel, error) {
	text, err := os.ReadFile(s.pointer())
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	if err := json.Unmarshal(text, &k); err != nil {
		return Kernel{}, &damagedError{s.pointer(), err.Error()}
	}
	entry := s.entryOf(k.ModuleDir)
	if !filepath.IsLocal(k.Image) || !filepath.IsLocal(k.ModuleDir) || s.entryOf(k.Image) != entry {
		return Kernel{}, &damagedError{s.pointer(), "it names files outside of the cache"}
	}
	if err := checkSums(filepath.Join(s.dir, entry)); err != nil {
		return Kernel{}, err
	}
	return s.open(k)
}

// open checks that the files of a kernel exist, by their paths in the store, which may move.
func (s *slot) open(k Kernel) (Kernel, error) {
	found, err := KernelFiles(filepath.Join(s.dir, k.Image), filepath.Join(s.dir, k.ModuleDir))
	k.Image, k.ModuleDir = found.Image, found.ModuleDir
	return k, err
}

// entry returns the name of the folder of a version.
func (s *slot) entry(version string) string {
	return s.key + "_" + unsafeInNames.ReplaceAllString(version, "_")
}

// unsafeInNames matches what a version may have and the name of a folder should not.
var unsafeInNames = regexp.MustCompile(`[^0-9A-Za-z.+~-]`)

// lock locks the slot, as long as ctx lasts, and removes what a killed writer left in it.
func (s *slot) lock(ctx context.Context) (unlock func() error, err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, s.key+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	const poll = 100 * time.Millisecond // flock takes no time limit
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		s.report("wait")(0)
		select {
		case <-ctx.Done():
			err := fmt.Errorf("wait for another fetch of %s: %w", s.name, context.Cause(ctx))
			return nil, errors.Join(err, f.Close())
		case <-tick.C:
		}
	}
	if err := removeExcept(filepath.Join(s.dir, s.partial()+"*"), nil); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // closing releases the lock
}

// partial returns the prefix of the folders of running fetches. No key has a _ in it.
func (s *slot) partial() string { return ".partial_" + s.key + "_" }

// removeExcept removes the folders that a pattern matches, but for those with names in keep.
func removeExcept(pattern string, keep map[string]bool) error {
	found, err := filepath.Glob(pattern)
	for _, dir := range found {
		if !keep[filepath.Base(dir)] {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// fetchFirst fetches from the first archive that has the kernel.
func (s *slot) fetchFirst(ctx context.Context, archives []archive, d *distro) (Kernel, error) {
	var failures []error
	for _, from := range archives {
		k, err := s.fetch(ctx, from, d)
		if err == nil {
			return k, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) {
			break // another mirror would fail too
		}
	}
	return Kernel{}, errors.Join(failures...)
}

// fetch downloads the current version of a kernel from an archive into the slot.
func (s *slot) fetch(ctx context.Context, from archive, d *distro) (k Kernel, err error) {
	if err := room(s.dir); err != nil {
		return Kernel{}, err
	}
	work, err := os.MkdirTemp(s.dir, s.partial())
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	a, err := newApt(work, d, from, s.report("index"))
	if err == nil {
		err = a.update(ctx)
	}
	if err != nil {
		return Kernel{}, err
	}
	packages, err := a.kernel(ctx, d.metaPackage())
	if err != nil {
		return Kernel{}, err
	}
	version := packages[1].version // the first is the meta package
	entry := s.entry(version)
	if k, err := s.find(entry, version); err == nil &&
		checkSums(filepath.Join(s.dir, entry)) == nil { // fetched before
		return s.point(k)
	}
	debs, root := filepath.Join(work, "debs"), filepath.Join(work, "root")
	if err := errors.Join(os.Mkdir(debs, 0o755), os.Mkdir(root, 0o755)); err != nil {
		return Kernel{}, err
	}
	a.progress = s.report("download")
	if err := a.download(ctx, debs, packages[1:]); err != nil {
		return Kernel{}, err
	}
	a.progress = s.report("unpack")
	if err := a.unpack(ctx, debs, root); err != nil {
		return Kernel{}, err
	}
	if _, err := s.find(filepath.Join(filepath.Base(work), "root"), version); err != nil {
		return Kernel{}, err
	}
	if err := writeSums(root); err != nil {
		return Kernel{}, err
	}
	place := filepath.Join(s.dir, entry)
	// A damaged entry may be in the way.
	if err := errors.Join(os.RemoveAll(place), os.Rename(root, place)); err != nil {
		return Kernel{}, err
	}
	if k, err = s.find(entry, version); err != nil {
		return Kernel{}, err
	}
	return s.point(k)
}

// room checks that a fetch will not fill the disk: on a full one apt may wait forever.
func room(dir string) error {
	// The largest kernel, Ubuntu's: 100 MB of packages, 200 MB unpacked, 100 MB of index.
	const need = 400 << 20
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return fmt.Errorf("%w: %d MB are free, a fetch takes up to %d",
			syscall.ENOSPC, free>>20, need>>20)
	}
	return nil
}

// find finds the image and the modules in an unpacked entry. Its paths are relative to the store.
func (s *slot) find(entry, version string) (Kernel, error) {
	image, err := s.only(entry, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	if err != nil {
		return Kernel{}, err
	}
	modules, err := s.only(entry, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{s.name, filepath.Base(modules), version, image, modules}
	_, err = s.open(k)
	return k, err
}

// only returns the single path in an entry that matches one of the patterns, relative to the store.
func (s *slot) only(entry string, patterns ...string) (string, error) {
	var hits []string
	for _, pattern := range patterns {
		more, err := filepath.Glob(filepath.Join(s.dir, entry, pattern))
		if err != nil {
			return "", err
		}
		hits = append(hits, more...)
	}
	if len(hits) != 1 {
		return "", fmt.Errorf("the packages of kernel %s hold %d of %s, not 1",
			s.name, len(hits), strings.Join(patterns, " or "))
	}
	return filepath.Rel(s.dir, hits[0])
}

// point makes a kernel the slot's current one, and removes versions other than this one and the
// former one, which a running run may still boot.
func (s *slot) point(k Kernel) (Kernel, error) {
	keep := map[string]bool{s.entryOf(k.ModuleDir): true}
	if before, err := s.current(); err == nil {
		modules, err := filepath.Rel(s.dir, before.ModuleDir)
		if err != nil {
			return Kernel{}, err
		}
		keep[s.entryOf(modules)] = true
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return Kernel{}, err
	}
	draft := s.pointer() + ".new"
	if err := os.WriteFile(draft, append(text, '\n'), 0o644); err != nil {
		return Kernel{}, err
	}
	if err := os.Rename(draft, s.pointer()); err != nil {
		return Kernel{}, err
	}
	if err := removeExcept(filepath.Join(s.dir, s.key+"_*"), keep); err != nil {
		return Kernel{}, err
	}
	return s.open(k)
}

// entryOf returns the entry that holds a file, by its path below the store.
func (s *slot) entryOf(path string) string {
	entry, _, _ := strings.Cut(path, "/")
	return entry
}
