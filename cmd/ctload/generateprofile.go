package main

import (
	"encoding"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/scenarios"
)

// profileText is how a rate is given on the command line: one of these, or none for a closed loop.
type profileText struct{ rate, ramp, stages, burst, sine string }

// read sets the rate or the profile of a spec, in the units of the experiment language.
func (p profileText) read(s *generators.Spec) error {
	switch {
	case p.rate != "":
		var rate scenarios.Rate
		if err := rate.UnmarshalText([]byte(p.rate)); err != nil {
			return fmt.Errorf("--rate: %w", err)
		}
		s.Rate = float64(rate)
	case p.ramp != "":
		if s.Duration <= 0 {
			return errors.New("--ramp needs --duration: the time over which the rate changes")
		}
		from, to, err := readRamp(p.ramp)
		if err != nil {
			return fmt.Errorf("--ramp: %w", err)
		}
		s.Profile = &generators.Profile{Stages: pacing.Stages{{From: from, To: to, Duration: s.Duration}}}
	case p.stages != "":
		stages, err := readStages(p.stages)
		if err != nil {
			return fmt.Errorf("--stages: %w", err)
		}
		s.Profile = &generators.Profile{Stages: stages}
	case p.burst != "":
		var size scenarios.Count
		var every scenarios.Duration
		if err := readParts(p.burst, "500:1s", &size, &every); err != nil {
			return fmt.Errorf("--burst: %w", err)
		}
		s.Profile = &generators.Profile{Bursts: &pacing.Bursts{Size: int64(size), Every: time.Duration(every)}}
	case p.sine != "":
		var mean, amplitude scenarios.Rate
		var period scenarios.Duration
		if err := readParts(p.sine, "1000/s:800/s:30s", &mean, &amplitude, &period); err != nil {
			return fmt.Errorf("--sine: %w", err)
		}
		s.Profile = &generators.Profile{Sine: &pacing.Sine{Mean: float64(mean), Amplitude: float64(amplitude), Period: time.Duration(period)}}
	}
	return nil
}

// readStages reads stages separated by commas, each a rate or a ramp and how long it lasts.
func readStages(text string) (pacing.Stages, error) {
	var stages pacing.Stages
	for word := range strings.SplitSeq(text, ",") {
		rates, length, ok := strings.Cut(word, ":")
		if !ok {
			return nil, fmt.Errorf("%q is not a stage, as 1000/s:10s or 0/s-1000/s:10s", word)
		}
		from, to, err := readRamp(rates)
		if err != nil {
			return nil, err
		}
		var duration scenarios.Duration
		if err := duration.UnmarshalText([]byte(length)); err != nil {
			return nil, err
		}
		stages = append(stages, pacing.Stage{From: from, To: to, Duration: time.Duration(duration)})
	}
	return stages, nil
}

// readRamp reads "0/s-1000/s", or a single rate, which is both ends.
func readRamp(text string) (from, to float64, err error) {
	first, last, isRamp := strings.Cut(text, "-")
	if !isRamp {
		last = first
	}
	var a, b scenarios.Rate
	if err := errors.Join(a.UnmarshalText([]byte(first)), b.UnmarshalText([]byte(last))); err != nil && isRamp {
		return 0, 0, fmt.Errorf("%q is not a ramp, as 0/s-1000/s: %w", text, err)
	} else if err != nil {
		return 0, 0, a.UnmarshalText([]byte(first)) // once is enough
	}
	return float64(a), float64(b), nil
}

// readParts reads values separated by colons.
func readParts(text, example string, values ...encoding.TextUnmarshaler) error {
	parts := strings.Split(text, ":")
	if len(parts) != len(values) {
		return fmt.Errorf("%q has %d parts, want %d, as %s", text, len(parts), len(values), example)
	}
	for i, part := range parts {
		if err := values[i].UnmarshalText([]byte(part)); err != nil {
			return err
		}
	}
	return nil
}
