package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Remover handles one kind of objects. Its methods must touch only objects that carry the run's id
// or that the entry names, and return in bounded time.
type Remover interface {
	// Exists reports whether an object still exists: a recorded one may never have been made.
	Exists(ctx context.Context, run Run, e Entry) (bool, error)
	// Remove removes the object; one that is already gone is no error.
	Remove(ctx context.Context, run Run, e Entry) error
}

// Finding is the outcome for one object of a dead run, or for a whole run where Entry is empty.
type Finding struct {
	Run   Run
	Entry Entry
	State State
	Has   []Entry // objects so far of a run that is alive
	Torn  string  // the remains of a torn record
	Path  string  // of the journal
	Err   error   // why the object still exists
}

// State is the state of an object.
type State string

// The states.
const (
	Alive   State = "alive"   // the run continues: Collect touches none of its objects
	There   State = "there"   // found and left: the caller asked for a dry run
	Removed State = "removed" // removed, or restored to its former state
	Absent  State = "absent"  // already gone, or never made
	Failed  State = "failed"  // see Err
	Skipped State = "skipped" // not asked for
	// Torn is a record that was cut off, see Finding.Torn: what it names may still exist.
	Torn State = "torn"
)

// Options says what [Collect] does.
type Options struct {
	Folder   string // see [Folder]
	Removers map[Kind]Remover
	DryRun   bool               // only look
	Only     func(e Entry) bool // selects objects; nil: all
	Tell     func(f Finding)    // receives each object, in the order of removal
}

// Collect removes what dead runs left, the last made first, and the journals of runs with no object
// left. The error holds each failure; Collect removes the rest all the same. A reboot resets a dead
// run's settings of the host: Collect does not restore them after one.
func Collect(ctx context.Context, o Options) error {
	err := each(o.Folder, !o.DryRun,
		func(j *Journal) { o.Tell(Finding{Run: j.run, State: Alive, Has: j.left, Path: j.path}) },
		func(j *Journal) error { return collect(ctx, o, j) })
	if o.DryRun {
		return err
	}
	return errors.Join(err, removeBegun(o.Folder))
}

// removeBegun removes what runs left that were killed while they began their journals: they had
// made nothing.
func removeBegun(folder string) error {
	paths, err := filepath.Glob(filepath.Join(folder, ".????????"))
	for _, path := range paths {
		file, failed := os.Open(path)
		if errors.Is(failed, fs.ErrNotExist) { // its run has begun meanwhile
			continue
		}
		if failed == nil {
			if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				failed = os.Remove(path)
			}
			failed = errors.Join(failed, file.Close())
		}
		err = errors.Join(err, failed)
	}
	return err
}

// each passes the claimed journals of dead runs to dead, and the living runs to alive. Only with
// write may dead change the journals.
func each(folder string, write bool, alive func(*Journal), dead func(*Journal) error) error {
	paths, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		j, err := claim(path, write)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it ended meanwhile, or another process claimed it
		case err != nil:
			errs = append(errs, err)
		case j.file == nil:
			alive(j)
		default:
			errs = append(errs, dead(j))
		}
	}
	return errors.Join(errs...)
}

func collect(ctx context.Context, o Options, j *Journal) error {
	var errs []error
	if j.torn != "" {
		o.Tell(Finding{Run: j.run, State: Torn, Torn: j.torn, Path: j.path})
	}
	for _, e := range slices.Backward(j.Left()) {
		f := Finding{Run: j.run, Entry: e, Path: j.path}
		f.State, f.Err = o.treat(ctx, j.run, e)
		if f.Err != nil {
			errs = append(errs, fmt.Errorf("%s of run %s: %w", e, j.run.ID, f.Err))
		}
		o.Tell(f)
		if !o.DryRun && (f.State == Removed || f.State == Absent) {
			errs = append(errs, j.Gone(e))
		}
	}
	if o.DryRun {
		return errors.Join(append(errs, j.file.Close())...)
	}
	err := j.Close()
	if _, left := errors.AsType[*LeftError](err); left {
		err = nil // Tell received each failure
	}
	return errors.Join(append(errs, err)...)
}

// treat checks one object and removes it unless the caller did not ask for that.
func (o Options) treat(ctx context.Context, run Run, e Entry) (State, error) {
	if o.Only != nil && !o.Only(e) {
		return Skipped, nil
	}
	if e.Kind.OfHost() && !run.sameBoot() {
		return Absent, nil
	}
	remover, ok := o.Removers[e.Kind]
	if !ok {
		return Failed, fmt.Errorf("this ctload cannot remove a %s; a newer one may", e.Kind)
	}
	there, err := remover.Exists(ctx, run, e)
	switch {
	case err != nil:
		return Failed, err
	case !there:
		return Absent, nil
	case o.DryRun:
		return There, nil
	}
	if err := remover.Remove(ctx, run, e); err != nil {
		return Failed, err
	}
	return Removed, nil
}

// claim takes over the journal of a dead run, to read it or also to write. That of a living one it
// returns without a file, to look at. The error is fs.ErrNotExist when the run ended meanwhile.
func claim(path string, write bool) (_ *Journal, err error) {
	mode, lock := os.O_RDONLY, unix.LOCK_SH // readers see a dead run beside each other
	if write {
		mode, lock = os.O_RDWR|os.O_APPEND, unix.LOCK_EX
	}
	file, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	locked := unix.Flock(int(file.Fd()), lock|unix.LOCK_NB)
	text, err := os.ReadFile(path) // missing when its run ended while this process waited
	if err != nil {
		return nil, err
	}
	run, left, torn, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the journal %s: %w", path, err)
	}
	if errors.Is(locked, unix.EWOULDBLOCK) {
		return &Journal{run: run, path: path, left: left}, file.Close()
	}
	if locked != nil {
		return nil, fmt.Errorf("lock the journal %s: %w", path, locked)
	}
	if write && torn != "" {
		if err := file.Truncate(int64(len(text) - len(torn))); err != nil {
			return nil, fmt.Errorf("cut the torn line off the journal %s: %w", path, err)
		}
	}
	return &Journal{run: run, path: path, file: file, left: left, torn: torn}, nil
}

// Dead returns the objects of dead runs that a reboot has not reset. It touches none.
func Dead(folder string) (list []Entry, err error) {
	err = each(folder, false, func(*Journal) {}, func(j *Journal) error {
		reset := func(e Entry) bool { return e.Kind.OfHost() && !j.run.sameBoot() }
		list = append(list, slices.DeleteFunc(j.left, reset)...)
		return j.file.Close()
	})
	return list, err
}

// Paths removes files and folders of this host whose last name includes the run's id.
type Paths struct{}

// Exists implements [Remover].
func (Paths) Exists(_ context.Context, run Run, e Entry) (bool, error) {
	err := ours(run, e)
	if err == nil {
		_, err = os.Lstat(e.Name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove implements [Remover].
func (Paths) Remove(_ context.Context, run Run, e Entry) error {
	if err := ours(run, e); err != nil {
		return err
	}
	return os.RemoveAll(e.Name)
}

func ours(run Run, e Entry) error {
	if !filepath.IsAbs(e.Name) || !strings.Contains(filepath.Base(e.Name), run.ID) {
		return fmt.Errorf("%s does not carry the id %s: it is left alone", e.Name, run.ID)
	}
	return nil
}
