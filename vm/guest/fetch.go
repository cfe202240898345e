package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lock locks the slot for writing and removes what a killed writer left in it. It waits as long as
// the context lasts.
func (s *slot) lock(ctx context.Context, waiting func(float64)) (unlock func() error, err error) {
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
		waiting(0)
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another fetch of %s: %w", s.name, context.Cause(ctx)), f.Close())
		case <-tick.C:
		}
	}
	if err := s.clean(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // closing releases the lock
}

// partial returns the prefix of the folders of running fetches. No key has a _ in it.
func (s *slot) partial() string { return ".partial_" + s.key + "_" }

func (s *slot) clean() error {
	left, err := filepath.Glob(filepath.Join(s.dir, s.partial()+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range left {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// fetchFirst fetches from the first archive that has the kernel.
func (s *slot) fetchFirst(ctx context.Context, archives []archive, meta string, report func(stage string) func(float64)) (Kernel, error) {
	var failures []error
	for _, from := range archives {
		k, err := s.fetch(ctx, from, meta, report)
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
func (s *slot) fetch(ctx context.Context, from archive, meta string, report func(stage string) func(float64)) (k Kernel, err error) {
	if err := room(s.dir); err != nil {
		return Kernel{}, err
	}
	work, err := os.MkdirTemp(s.dir, s.partial())
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	a, err := newApt(work, from, report("index"))
	if err != nil {
		return Kernel{}, err
	}
	if err := a.update(ctx); err != nil {
		return Kernel{}, err
	}
	packages, err := a.kernel(ctx, meta)
	if err != nil {
		return Kernel{}, err
	}
	version := packages[1].version // the first is the meta package
	entry := s.entry(version)
	if k, err := s.find(entry, version); err == nil { // fetched before
		return s.point(k)
	}
	debs, root := filepath.Join(work, "debs"), filepath.Join(work, "root")
	for _, dir := range []string{debs, root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return Kernel{}, err
		}
	}
	a.progress = report("download")
	if err := a.download(ctx, debs, packages[1:]); err != nil {
		return Kernel{}, err
	}
	a.progress = report("unpack")
	if err := a.unpack(ctx, debs, root); err != nil {
		return Kernel{}, err
	}
	if _, err := s.find(filepath.Join(filepath.Base(work), "root"), version); err != nil {
		return Kernel{}, err
	}
	// A damaged entry may be in the way.
	if err := os.RemoveAll(filepath.Join(s.dir, entry)); err != nil {
		return Kernel{}, err
	}
	if err := os.Rename(root, filepath.Join(s.dir, entry)); err != nil {
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
		return fmt.Errorf("%w: %d MB are free, a fetch takes up to %d", syscall.ENOSPC, free>>20, need>>20)
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
	k := Kernel{Name: s.name, Release: filepath.Base(modules), Version: version, Image: image, ModuleDir: modules}
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
		return "", fmt.Errorf("the packages of kernel %s hold %d of %s, not 1", s.name, len(hits), strings.Join(patterns, " or "))
	}
	return filepath.Rel(s.dir, hits[0])
}

// point makes a kernel the slot's current one, and removes versions other than this one and the
// former one, which a running run may still boot.
func (s *slot) point(k Kernel) (Kernel, error) {
	keep := map[string]bool{s.entryOf(k): true}
	if before, err := s.current(); err == nil {
		before.ModuleDir, err = filepath.Rel(s.dir, before.ModuleDir)
		if err != nil {
			return Kernel{}, err
		}
		keep[s.entryOf(before)] = true
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
	entries, err := filepath.Glob(filepath.Join(s.dir, s.key+"_*"))
	if err != nil {
		return Kernel{}, err
	}
	for _, entry := range entries {
		if !keep[filepath.Base(entry)] {
			err = errors.Join(err, os.RemoveAll(entry))
		}
	}
	if err != nil {
		return Kernel{}, err
	}
	return s.open(k)
}

// entryOf returns the entry that holds the files of a kernel with paths relative to the store.
func (s *slot) entryOf(k Kernel) string {
	entry, _, _ := strings.Cut(k.ModuleDir, "/")
	return entry
}
