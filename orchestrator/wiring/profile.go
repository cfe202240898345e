package wiring

import (
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/scenarios"
)

// profile returns the rate profile of an entry, or nil without one.
func profile(e scenarios.Entry) *generators.Profile {
	switch {
	case len(e.Stages) > 0:
		return &generators.Profile{Stages: stages(e.Stages)}
	case e.Burst != nil:
		return &generators.Profile{Bursts: &pacing.Bursts{Size: int64(e.Burst.Size), Every: time.Duration(e.Burst.Every)}}
	case e.Sine != nil:
		return &generators.Profile{Sine: &pacing.Sine{Mean: float64(e.Sine.Mean), Amplitude: float64(e.Sine.Amplitude), Period: time.Duration(e.Sine.Period)}}
	}
	return nil
}

func stages(list []scenarios.Stage) pacing.Stages {
	var out pacing.Stages
	for _, stage := range list {
		out = append(out, pacing.Stage{From: float64(stage.Start()), To: float64(stage.Rate), Duration: time.Duration(stage.Duration)})
	}
	return out
}

// shareOf returns the ith of n parts of a profile, which together make the whole.
func shareOf(p *generators.Profile, i, n int) *generators.Profile {
	if p == nil {
		return nil
	}
	parts := float64(n)
	switch {
	case p.Bursts != nil:
		return &generators.Profile{Bursts: &pacing.Bursts{Size: max(1, part(p.Bursts.Size, i, n)), Every: p.Bursts.Every}}
	case p.Sine != nil:
		return &generators.Profile{Sine: &pacing.Sine{Mean: p.Sine.Mean / parts, Amplitude: p.Sine.Amplitude / parts, Period: p.Sine.Period}}
	}
	var share pacing.Stages
	for _, s := range p.Stages {
		share = append(share, pacing.Stage{From: s.From / parts, To: s.To / parts, Duration: s.Duration})
	}
	return &generators.Profile{Stages: share}
}

// meanRate returns the mean rate of a profile.
func meanRate(p *generators.Profile) float64 {
	switch {
	case p.Bursts != nil:
		return float64(p.Bursts.Size) / p.Bursts.Every.Seconds()
	case p.Sine != nil:
		return p.Sine.Mean
	}
	var n, seconds float64
	for _, s := range p.Stages {
		n += (s.From + s.To) / 2 * s.Duration.Seconds()
		seconds += s.Duration.Seconds()
	}
	if seconds == 0 {
		return 0
	}
	return n / seconds
}
