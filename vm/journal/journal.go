// Package journal records what a run makes outside its own sandbox, to remove it after a kill of
// the run: domains and networks of daemons that others use too, files, settings of the host.
//
// Each run has one file. The run writes an [Entry] to it, and to the disk, before it makes the
// named object, so that the file names every object; a clean end removes the file. The run locks
// the file for as long as it lives, and the kernel releases the lock however the run ends: a file
// without that lock belongs to a dead run. [Collect] removes what dead runs left, and nothing else.
package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
)

// Kind is the kind of object that an entry names.
type Kind string

// The kinds.
const (
	Domain      Kind = "domain"       // of the libvirt daemon Where
	Network     Kind = "network"      // of the libvirt daemon Where
	Pool        Kind = "pool"         // a storage pool of the libvirt daemon Where
	Volume      Kind = "volume"       // of the libvirt daemon Where; Detail is its pool
	Path        Kind = "path"         // a file, or a folder with contents; Where is empty
	HostSetting Kind = "host-setting" // a parameter of this host's kernel; Detail: former value
	HostModule  Kind = "host-module"  // a module of this host's kernel; Detail: former state
)

// OfHost reports whether the entry is a change of this host's kernel, which the next boot undoes.
func (k Kind) OfHost() bool { return k == HostSetting || k == HostModule }

// Entry is one object that a run is about to make or change. Equal entries name the same object.
type Entry struct {
	Kind   Kind   `json:"kind"`
	Where  string `json:"where,omitempty"` // the daemon's URI; empty: this host
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"` // further data for its remover; see the kinds
}

func (e Entry) String() string {
	text := string(e.Kind) + " " + e.Name
	if e.Kind.OfHost() {
		text += " (was " + e.Detail + ")"
	}
	if e.Where != "" {
		text += " on " + e.Where
	}
	return text
}

// Run is the run that owns a journal.
type Run struct {
	// ID is part of the name of everything that the run makes: eight random hexadecimal digits.
	ID      string    `json:"id"`
	Label   string    `json:"label"` // the user's name of the run: the run folder
	PID     int       `json:"pid"`   // for readers; the lock decides
	Started time.Time `json:"started"`
	Boot    string    `json:"boot"` // id of the host's boot
}

// sameBoot reports whether the host has not booted since, so that its kernel still holds changes.
func (r Run) sameBoot() bool { return r.Boot == kernels.BootID() }

// line is one line of the file: the first names the run, the others what it makes and what is gone.
type line struct {
	Run  *Run   `json:"run,omitempty"`
	Make *Entry `json:"make,omitempty"`
	Gone *Entry `json:"gone,omitempty"`
}

// Journal is the file of a run that this process owns. It is safe for concurrent use.
type Journal struct {
	run  Run
	path string

	mu   sync.Mutex
	file *os.File // holds the lock
	left []Entry  // recorded and not gone
	torn string   // a last line that was cut off
}

// HostFolder holds the journals of runs that change this host's kernel, whatever user made them:
// every run reads it before it measures. It goes with the boot, as the changes do.
const HostFolder = "/run/ctload"

// MakeHostFolder makes a folder for journals that all users may read. It needs root.
func MakeHostFolder(folder string) error {
	err := os.MkdirAll(folder, 0o755)
	if err == nil {
		err = os.Chmod(folder, 0o755) // whatever the umask
	}
	if err != nil {
		return fmt.Errorf("make the folder for changes of this host: %w", err)
	}
	return nil
}

// Folder returns the folder of the user's journals.
func Folder() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // its specification says to ignore a relative path
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the folder for the state of runs: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "ctload", "runs"), nil
}

const suffix = ".jsonl"

// Create begins the journal of a run in folder, which it makes. The file may be read by the users
// who may read the folder. label is the user's name of the run, pid the process that the user
// started.
func Create(folder, label string, pid int) (_ *Journal, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("begin the journal of this run: %w", err)
		}
	}()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	var id [4]byte
	rand.Read(id[:])
	j := &Journal{run: Run{
		ID: hex.EncodeToString(id[:]), Label: label, PID: pid,
		Started: time.Now().Round(0), Boot: kernels.BootID(),
	}}
	j.path = filepath.Join(folder, j.run.ID+suffix)
	// A hidden name until the file is locked: no other process may take it for a dead run's.
	// Collect removes hidden files without a lock, perhaps this one before it is locked.
	hidden := filepath.Join(folder, "."+j.run.ID)
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_APPEND
	info, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	if j.file, err = os.OpenFile(hidden, flags, 0o600); err != nil {
		return nil, err
	}
	err = unix.Flock(int(j.file.Fd()), unix.LOCK_EX)
	err = errors.Join(err, j.file.Chmod(info.Mode().Perm()&0o644|0o600))
	err = errors.Join(err, j.append(line{Run: &j.run}))
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, hidden, unix.AT_FDCWD, j.path, unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, unix.ENOENT) {
		_ = j.file.Close()
		return Create(folder, label, pid)
	}
	if err == nil {
		err = syncFolder(folder)
	}
	if err != nil {
		return nil, errors.Join(err, j.file.Close(), os.Remove(hidden))
	}
	return j, nil
}

// ID returns the run's id.
func (j *Journal) ID() string { return j.run.ID }

// Record notes, once, an object that is about to be made. On return the entry is on the disk.
func (j *Journal) Record(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if slices.Contains(j.left, e) {
		return nil
	}
	if err := j.append(line{Make: &e}); err != nil {
		return fmt.Errorf("record %s before it is made: %w", e, err)
	}
	j.left = append(j.left, e)
	return nil
}

// Gone notes that a recorded object is gone, or was never made.
func (j *Journal) Gone(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.left, e)
	if i < 0 {
		return nil
	}
	if err := j.append(line{Gone: &e}); err != nil {
		return fmt.Errorf("record that %s is gone: %w", e, err)
	}
	j.left = slices.Delete(j.left, i, i+1)
	return nil
}

// Left returns the recorded objects that are not gone, in the order of making.
func (j *Journal) Left() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.left)
}

// LeftError holds what a run could not remove at its end; `ctload gc` will try again.
type LeftError struct{ Left []Entry }

func (e *LeftError) Error() string {
	var names []string
	for _, entry := range e.Left {
		names = append(names, entry.String())
	}
	return "not removed: " + strings.Join(names, ", ") + "; ctload gc tries again"
}

// Close ends the journal. When no object is left, it removes the file; else the file stays for
// [Collect], and the error is a *LeftError.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if len(j.left) == 0 {
		err = os.Remove(j.path)
	} else {
		err = &LeftError{Left: slices.Clone(j.left)}
	}
	return errors.Join(err, j.file.Close())
}

func (j *Journal) append(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(text, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

// parse reads the text of a journal. It returns a last line without a line feed as torn: a run that
// was killed while writing it had not made the named object yet, but a damaged disk may have torn a
// whole record.
func parse(text []byte) (run Run, left []Entry, torn string, err error) {
	end := bytes.LastIndexByte(text, '\n') + 1
	whole, torn := text[:end], string(text[end:])
	for number, raw := range slices.Collect(bytes.Lines(whole)) {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			return run, left, torn, fmt.Errorf("line %d: %w", number+1, err)
		}
		switch {
		case l.Run != nil:
			run = *l.Run
		case l.Make != nil:
			left = append(left, *l.Make)
		case l.Gone != nil:
			if i := slices.Index(left, *l.Gone); i >= 0 {
				left = slices.Delete(left, i, i+1)
			}
		}
	}
	if run.ID == "" {
		return run, left, torn, errors.New("it does not say whose journal it is")
	}
	return run, left, torn, nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
