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

// Remover knows one kind of things. Its methods must touch nothing that does not carry the run's id, or that
// the entry does not name, and return in bounded time.
type Remover interface {
	// Exists says whether a thing is still there: a recorded one may never have been made.
	Exists(ctx context.Context, run Run, e Entry) (bool, error)
	// Remove removes it; one that is gone already is no error.
	Remove(ctx context.Context, run Run, e Entry) error
}

// Finding is what came of one thing that a dead run left, or of a run as a whole where Entry is empty.
type Finding struct {
	Run   Run
	Entry Entry
	State State
	Has   []Entry // of a run that is alive: what it has made so far
	Err   error   // why it is still there
}

// State is what is the matter with a thing.
type State string

// The states.
const (
	Alive   State = "alive"   // the run still goes on: nothing of it is touched
	There   State = "there"   // found, and left there: it was only asked for
	Removed State = "removed" // or put back as it was
	Absent  State = "absent"  // it was gone, or never made
	Failed  State = "failed"  // see Err
	Skipped State = "skipped" // not asked for
)

// Options say what [Collect] does.
type Options struct {
	Folder   string // see [Folder]
	Removers map[Kind]Remover
	DryRun   bool               // only look
	Only     func(e Entry) bool // which things are meant; nil: all
	Tell     func(f Finding)    // hears of each thing, in the order in which they are removed
}

// Collect removes what dead runs left, the last made first, and the journals of those of which nothing is left
// then. The error holds what went wrong; the rest is removed all the same. A dead run's settings of the
// host are gone with a reboot: they are not put back after one.
func Collect(ctx context.Context, o Options) error {
	return each(o.Folder,
		func(living *aliveError) { o.Tell(Finding{Run: living.run, State: Alive, Has: living.left}) },
		func(j *Journal) error { return collect(ctx, o, j) })
}

// each hands the journals of dead runs, claimed, to dead, and tells of those that are alive.
func each(folder string, alive func(*aliveError), dead func(*Journal) error) error {
	paths, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		j, err := claim(path)
		if living, ok := errors.AsType[*aliveError](err); ok {
			alive(living)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) { // it ended meanwhile, or somebody else was quicker
			continue
		}
		if err == nil {
			err = dead(j)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func collect(ctx context.Context, o Options, j *Journal) error {
	var errs []error
	for _, e := range slices.Backward(j.Left()) {
		f := Finding{Run: j.run, Entry: e}
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
		err = nil // each was told of
	}
	return errors.Join(append(errs, err)...)
}

// treat looks at one thing and removes it unless that was not asked for.
func (o Options) treat(ctx context.Context, run Run, e Entry) (State, error) {
	if o.Only != nil && !o.Only(e) {
		return Skipped, nil
	}
	if e.Kind.OfHost() && !run.SameBoot() {
		return Absent, nil
	}
	remover, ok := o.Removers[e.Kind]
	if !ok {
		return Failed, fmt.Errorf("this ctload does not know how to remove a %s; a newer one may", e.Kind)
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

// aliveError says that a run still goes on.
type aliveError struct {
	run  Run
	left []Entry
}

func (e *aliveError) Error() string {
	return fmt.Sprintf("run %s (%s, process %d) still goes on", e.run.ID, e.run.Label, e.run.PID)
}

// claim takes over the journal of a dead run. The error is an *aliveError when it is not dead, and
// fs.ErrNotExist when it ended meanwhile.
func claim(path string) (_ *Journal, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	locked := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	text, err := os.ReadFile(path) // not there any more when its run ended while we waited
	if err != nil {
		return nil, err
	}
	run, left, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the journal %s: %w", path, err)
	}
	if errors.Is(locked, unix.EWOULDBLOCK) {
		return nil, &aliveError{run: run, left: left}
	}
	if locked != nil {
		return nil, fmt.Errorf("lock the journal %s: %w", path, locked)
	}
	if end := int64(strings.LastIndexByte(string(text), '\n') + 1); end < int64(len(text)) {
		if err := file.Truncate(end); err != nil {
			return nil, fmt.Errorf("cut the torn line off the journal %s: %w", path, err)
		}
	}
	return &Journal{run: run, path: path, file: file, left: left}, nil
}

// Dead are the things that dead runs recorded, as far as keep wants them, and whose they are. Nothing is touched.
func Dead(folder string, keep func(Run, Entry) bool) ([]Finding, error) {
	var list []Finding
	err := each(folder, func(*aliveError) {}, func(j *Journal) error {
		for _, e := range j.left {
			if keep(j.run, e) {
				list = append(list, Finding{Run: j.run, Entry: e})
			}
		}
		return j.file.Close()
	})
	return list, err
}
