package compare

import (
	"fmt"

	"github.com/ctload/ctload/results"
)

// Baseline is an earlier run that a new one is compared with.
type Baseline struct {
	Name    string // in the reports
	Run     *results.Run
	Allowed float64 // share by which a figure may be worse: 0.1 for 10 %
}

// Check refuses a baseline before the run that it is for: planned holds what is known by then, its
// scenarios without trials. Check takes what is not known yet, an empty driver or accelerator, to
// be as in the baseline; [Baseline.Judge] finds out. The error for unlike runs is an
// [*UnlikeError].
func (b *Baseline) Check(planned *results.Run) error {
	like := *planned
	if like.Environment.Driver == "" {
		like.Environment.Driver = b.Run.Environment.Driver
	}
	if like.Environment.Accelerator == "" {
		like.Environment.Accelerator = b.Run.Environment.Accelerator
	}
	c, err := align([]string{b.Name, "this run"}, []*results.Run{b.Run, &like}, false)
	if err != nil {
		return err
	}
	var unlike []string
	for _, g := range c.Groups {
		if b.Run.Scenario(g.Name).Valid() == 0 {
			unlike = append(unlike, fmt.Sprintf("%s has no valid trial of %s", b.Name, g.Name))
		}
	}
	if len(unlike) > 0 {
		return &UnlikeError{Reasons: unlike}
	}
	return nil
}

// Judge compares a run with the baseline and records in the run what became worse. The error for
// unlike runs is an [*UnlikeError]; the run then stays unchanged.
func (b *Baseline) Judge(run *results.Run) error {
	r, err := findRegressions(b.Run, run, b.Allowed)
	if err != nil {
		return err
	}
	run.Baseline, run.MaxRegression = b.Name, b.Allowed
	run.Regressions, run.BaselineScenarios, run.BaselineNotes = r.Found, r.Scenarios, r.Notes
	return nil
}
