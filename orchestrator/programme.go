package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// programme hands out the trials of a plan to the labs and keeps what they measure.
type programme struct {
	Request
	run *results.Run

	mu       sync.Mutex
	changed  *sync.Cond
	open     []Slot // not begun, or to be done again
	begun    int
	underWay int
	labs     int   // that still take trials
	ended    error // why no trial is handed out any more
}

func newProgramme(r Request, run *results.Run) *programme {
	p := &programme{Request: r, run: run, open: slices.Clone(r.Plan.Order), labs: 1 + len(r.Beside)}
	p.changed = sync.NewCond(&p.mu)
	if len(r.Beside) > 0 {
		p.View = beside{r.View}
	}
	return p
}

// failedBootsInARow after which a lab gives up: the next boot would fail as well.
const failedBootsInARow = 2

// follow performs one trial after another in a lab until none is left, the run ends, or the lab is gone.
func (p *programme) follow(ctx context.Context, lab vm.Lab) (err error) {
	failedBoots := 0
	var next *early
	defer func() { err = errors.Join(err, next.abandon()) }()
	for {
		slot, ok := p.next()
		if !ok {
			return nil
		}
		t, err := p.begin(slot, lab, next)
		next = nil
		if err != nil {
			return p.end(err)
		}
		t.bootNext = sync.OnceValue(func() (err error) {
			next, err = p.bootEarly(ctx, lab, slot)
			return err
		})
		err = t.perform(ctx)
		results.Judge(&t.result, p.run.Scenarios[slot.Scenario].Configuration)

		dead, lost := p.survey(ctx, t, err)
		switch {
		case dead && t.result.Verdict == results.Invalid:
			err = p.repeat(t)
		case dead:
			err = p.keep(t)
		default:
			err = errors.Join(p.keep(t), giveUp(ctx, err, &failedBoots))
		}
		if err != nil {
			return p.end(err)
		}
		if lost != nil {
			return p.leave(lost)
		}
	}
}

// next is the next trial, if there is one. It waits for those under way: one of them may have to be done again.
func (p *programme) next() (Slot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.open) == 0 && p.underWay > 0 && p.ended == nil {
		p.changed.Wait()
	}
	if len(p.open) == 0 || p.ended != nil {
		return Slot{}, false
	}
	slot := p.open[0]
	p.open = p.open[1:]
	p.underWay++
	return slot, true
}

// peek is the next trial, if one is left.
func (p *programme) peek() (Slot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) == 0 || p.ended != nil {
		return Slot{}, false
	}
	return p.open[0], true
}

// begin begins a trial, whose DUT boots already where there is an early one.
func (p *programme) begin(slot Slot, lab vm.Lab, dut *early) (*trial, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	p.View.Trial(p.begun, len(p.Plan.Order), p.Plan.Name(slot))
	r := p.Request
	r.Lab = lab
	return newTrial(r, slot, dut)
}

// spread is a lab on several hosts, any of which may go away.
type spread interface {
	// Survey asks every host whether it is still there, and goes on without those that are not; dead says
	// which, a sentence each. The error is a *vm.LostError when what is left cannot hold a trial.
	Survey(ctx context.Context) (dead []string, err error)
}

// survey finds out after a trial that went wrong whether a host of its lab has died under it, and whether the
// lab is lost with it. What such a trial measured says nothing of the DUT.
func (p *programme) survey(ctx context.Context, t *trial, err error) (dead bool, lost error) {
	lab, ok := t.Lab.(spread)
	if !ok || err == nil || ctx.Err() != nil {
		return false, nil
	}
	gone, lost := lab.Survey(ctx)
	if len(gone) == 0 {
		return false, nil
	}
	text := strings.Join(gone, "; ")
	if t.result.Verdict == results.Invalid {
		text += fmt.Sprintf("; trial %s is done again", p.Plan.Name(t.slot))
	}
	p.View.Note(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Warnings = append(p.run.Warnings, text)
	return true, lost
}

// repeat puts a trial back to those that are open, and forgets what it measured.
func (p *programme) repeat(t *trial) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append([]Slot{t.slot}, p.open...)
	p.begun--
	p.underWay--
	p.changed.Broadcast()
	return t.folder.Remove()
}

// keep puts a trial into the run and saves that.
func (p *programme) keep(t *trial) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	record(p.run, t.slot, t.result, t.Lab.About())
	p.underWay--
	p.changed.Broadcast()
	if err := p.save(p.run); err != nil {
		return err
	}
	p.View.Ended(t.result)
	return nil
}

// giveUp says whether the run ends with a trial whose error err is.
func giveUp(ctx context.Context, err error, failedBoots *int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, lost := errors.AsType[*vm.LostError](err); lost {
		return err
	}
	if missing, ok := errors.AsType[*guest.MissingError](err); ok {
		return missing // the next trial would meet the same
	}
	boot, failed := errors.AsType[*vm.BootError](err)
	if !failed {
		*failedBoots = 0
		return nil
	}
	if *failedBoots++; *failedBoots == failedBootsInARow {
		return fmt.Errorf("%d machines in a row did not boot, giving up: %s", *failedBoots, boot.Brief())
	}
	return nil
}

// end lets no further trial begin.
func (p *programme) end(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = err
	p.changed.Broadcast()
	return err
}

// leave is the end of a lab: that of the run as well when it was the last.
func (p *programme) leave(lost error) error {
	p.mu.Lock()
	p.labs--
	last := p.labs == 0
	p.mu.Unlock()
	if last {
		return p.end(lost)
	}
	return nil
}

// beside is the view of trials that run beside each other: what would be mixed up is left out.
type beside struct{ View }

func (b beside) Trial(index, total int, name string) {
	b.Note(fmt.Sprintf("trial %d of %d begins: %s", index, total, name))
}

func (b beside) Ended(trial results.Trial) {
	b.Note(fmt.Sprintf("%s: %s: %s", strings.TrimPrefix(trial.Folder, "trials/"), trial.Verdict, trial.Sentence))
}

func (beside) Stage(string, time.Duration) {}
func (beside) Load(int64, int64, int64)    {}
func (beside) Table(results.Sample)        {}
