package progress

import (
	"fmt"
	"math"
	"time"

	"github.com/ctload/ctload/results"
)

// state holds the facts of the current trial that a view shows.
type state struct {
	name         string
	index, total int
	began        time.Time // the trial
	stage        string
	entered      time.Time     // the stage
	atMost       time.Duration // the stage's length; 0: not known
	done, failed int64
	want         int64 // 0: not known
	sample       results.Sample
}

func newState(index, total int, name string) state {
	now := time.Now()
	return state{index: index, total: total, name: name, began: now, entered: now}
}

func (s *state) enter(stage string, atMost time.Duration) {
	s.stage, s.entered, s.atMost = stage, time.Now(), atMost
}

// share returns the completed share of the load: by count, or by time where no count is known.
func (s state) share() float64 {
	switch {
	case s.want > 0:
		return min(1, float64(s.done+s.failed)/float64(s.want))
	case s.stage == "load" && s.atMost > 0:
		return min(1, time.Since(s.entered).Seconds()/s.atMost.Seconds())
	default:
		return 0
	}
}

// left returns how many seconds the stage still takes, as far as that is known.
func (s state) left() (seconds float64, known bool) {
	passed := time.Since(s.entered).Seconds()
	switch share := s.share(); {
	case s.atMost > 0:
		return max(0, s.atMost.Seconds()-passed), true
	case s.stage == "load" && share > 0.1:
		return passed * (1 - share) / share, true
	default:
		return 0, false
	}
}

// count words what the generators have done.
func (s state) count() string {
	if s.want > 0 {
		return fmt.Sprintf("%d of %d", s.done, s.want)
	}
	return fmt.Sprintf("%d done", s.done)
}

func (s state) loadHead() string {
	return fmt.Sprintf("%s %d/%d %s", s.stage, s.index, s.total, s.name)
}

// loadPieces returns the texts of the load's bar, the most important first.
func (s state) loadPieces() []string {
	var pieces []string
	if s.stage == "load" && s.done+s.failed > 0 {
		pieces = append(pieces, s.count())
	}
	switch seconds, known := s.left(); {
	case !known:
		pieces = append(pieces, fmt.Sprintf("%.0f s", time.Since(s.entered).Seconds()))
	case s.stage == "load":
		pieces = append(pieces, fmt.Sprintf("%.0f s left", math.Ceil(seconds)))
	default:
		pieces = append(pieces, fmt.Sprintf("at most %.0f s left", math.Ceil(seconds)))
	}
	if s.failed > 0 {
		pieces = append(pieces, fmt.Sprintf("%d failed", s.failed))
	}
	return pieces
}

func (s state) tablePieces() []string {
	if s.sample.Max == 0 {
		return nil
	}
	pieces := []string{fmt.Sprintf("%d of %d", s.sample.Count, s.sample.Max)}
	if n := s.sample.Counters.Drop; n > 0 {
		pieces = append(pieces, fmt.Sprintf("drop %d", n))
	}
	if n := s.sample.Counters.EarlyDrop; n > 0 {
		pieces = append(pieces, fmt.Sprintf("early_drop %d", n))
	}
	return pieces
}

// row returns the outcome of a trial in a line.
func (s state) row(trial results.Trial) string {
	return fmt.Sprintf("%d/%d %s: %s, %.0f s", s.index, s.total, s.name, outcome(trial), time.Since(s.began).Seconds())
}

func outcome(trial results.Trial) string {
	return fmt.Sprintf("%s: %d of %d completed, peak %d of %d", trial.Verdict,
		trial.Load.Completed, trial.Load.Offered, trial.Conntrack.Peak, trial.Conntrack.Max)
}
