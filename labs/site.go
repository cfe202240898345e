package labs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/sandbox"
)

// Order tells a lab about the run: where the lab is made, and for which scenarios.
type Order struct {
	Choice     Choice
	Experiment *scenarios.Experiment
	Scenarios  []scenarios.Resolved // as [Choice.Check] has left them
	Store      *guest.Store
	Cache      string            // folder for facts about the host; see embedded.Options
	Label      string            // identifies the run on what it leaves behind
	Note       func(text string) // receives remarks once the lab is made
}

// Prepare checks before anything starts that the host has what the lab needs, and does what the
// sandbox cannot: it fetches kernels that are not cached.
func (o Order) Prepare(ctx context.Context) error {
	d, err := o.Choice.driver()
	if err == nil {
		err = checkLimits()
	}
	if err != nil {
		return err
	}
	return d.prepare(ctx, o)
}

// Site is the place where a lab is made, with the materials that its machines boot.
type Site struct {
	Order
	// Folder is for this run alone, and removed with it; its path is short enough for sockets.
	Folder    string
	Materials Materials // empty where machines boot none
	EarlyBoot bool      // the lab can boot the DUT of the next trial while the current one ends

	driver  driver
	journal *journal.Journal // of what outlives a kill; nil in the sandbox, where nothing does
	vacate  func() error     // releases the place
	lab     vm.Lab           // nil until it is open
}

// Settle makes the place of a lab: a folder, which ends with the sandbox where there is one; a
// journal where something may outlive the run; and what machines boot, with further tools.
func (o Order) Settle(ctx context.Context, tools []string) (*Site, error) {
	d, err := o.Choice.driver()
	if err != nil {
		return nil, err
	}
	s := &Site{Order: o, driver: d, EarlyBoot: d.early}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if d.kernels {
		folder := filepath.Join(s.Folder, "guest")
		if s.Materials, err = o.materials(ctx, folder, tools...); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Site) settle() error {
	s.vacate = func() error { return nil }
	if s.driver.sandboxed && !s.Choice.AllowHostChanges {
		s.Folder = sandbox.RuntimeDir
		return nil
	}
	state, err := hostFolder, error(nil)
	if !s.Choice.AllowHostChanges {
		state, err = journal.Folder()
	}
	if err != nil {
		return err
	}
	if s.journal, err = journal.Create(state, s.Label, sandbox.Caller()); err != nil {
		return err
	}
	s.vacate = s.journal.Close
	if s.driver.sandboxed {
		s.Folder = sandbox.RuntimeDir
		return nil
	}
	s.Folder = filepath.Join(vm.RuntimeFolder(), "ctload-"+s.journal.ID())
	entry := journal.Entry{Kind: journal.Path, Name: s.Folder}
	if err := s.journal.Record(entry); err != nil {
		return errors.Join(err, s.journal.Close())
	}
	s.vacate = func() error {
		err := os.RemoveAll(s.Folder)
		if err == nil {
			err = s.journal.Gone(entry)
		}
		closing := s.journal.Close()
		if left, ok := errors.AsType[*journal.LeftError](closing); ok {
			// An error already reports each failure. Leftovers on a dead host are no fault of this
			// run.
			s.Note(left.Error())
			closing = nil
		}
		return errors.Join(err, closing)
	}
	if err := os.Mkdir(s.Folder, 0o700); err != nil {
		return errors.Join(fmt.Errorf("make the run's runtime folder: %w", err), s.vacate())
	}
	return nil
}

// Open makes the lab, or one for each concurrent trial, and returns them.
func (s *Site) Open(ctx context.Context) ([]vm.Lab, error) {
	lab, err := s.driver.open(ctx, s)
	if err != nil {
		return nil, err // and lab may be a nil pointer in an interface
	}
	s.lab = lab
	if several, ok := s.lab.(interface{ Labs() []vm.Lab }); ok {
		return several.Labs(), nil
	}
	return []vm.Lab{s.lab}, nil
}

// Close ends the lab and releases the place.
func (s *Site) Close() error {
	var err error
	if s.lab != nil {
		err = s.lab.Close()
	}
	return errors.Join(err, s.vacate())
}
