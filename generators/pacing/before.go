package pacing

import (
	"math"
	"time"
)

// Counter is a [Schedule] that tells how many of its sends are due before a time without going
// through them.
type Counter interface {
	Schedule
	// Before returns how many sends are due before a time from the start, as the integral of the
	// rate: parts of a send count.
	Before(t time.Duration) float64
}

// Before implements [Counter].
func (c Constant) Before(t time.Duration) float64 { return float64(c) * max(0, t.Seconds()) }

// Before implements [Counter].
func (s Stages) Before(t time.Duration) float64 {
	n := 0.0
	for _, stage := range s {
		if t <= 0 {
			break
		}
		d, in := stage.Duration.Seconds(), min(t, stage.Duration).Seconds()
		n += stage.From*in + (stage.To-stage.From)*in*in/(2*d)
		t -= stage.Duration
	}
	return n
}

// Before implements [Counter].
func (b Bursts) Before(t time.Duration) float64 {
	if t <= 0 {
		return 0
	}
	return float64(b.Size) * math.Ceil(t.Seconds()/b.Every.Seconds())
}

// Before implements [Counter].
func (s Sine) Before(t time.Duration) float64 { return s.count(max(0, t.Seconds())) }
