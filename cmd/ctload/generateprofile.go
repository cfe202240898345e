package main

import (
	"fmt"
	"strings"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
)

// readRamp parses a rate that changes evenly.
func (f *generateFlags) readRamp(text string) error {
	from, to, err := readRates(text)
	if err != nil {
		return err
	}
	f.ramp = &pacing.Stage{From: from, To: to}
	return nil
}

// readStages parses stages separated by commas, each a rate or a ramp and its duration.
func (f *generateFlags) readStages(text string) error {
	var stages pacing.Stages
	for word := range strings.SplitSeq(text, ",") {
		rates, length, ok := strings.Cut(word, ":")
		if !ok {
			return fmt.Errorf("%q is not a stage, as 1000/s:10s or 0/s-1000/s:10s", word)
		}
		from, to, err := readRates(rates)
		if err != nil {
			return err
		}
		stage := pacing.Stage{From: from, To: to}
		if err := durationFlag(&stage.Duration).Set(length); err != nil {
			return err
		}
		stages = append(stages, stage)
	}
	f.spec.Profile = &generators.Profile{Stages: stages}
	return nil
}

// readBurst parses the size of a burst and the time between bursts.
func (f *generateFlags) readBurst(text string) error {
	var b pacing.Bursts
	if err := readParts(text, "500:1s", countFlag(&b.Size, 1, mostThings), durationFlag(&b.Every)); err != nil {
		return err
	}
	f.spec.Profile = &generators.Profile{Bursts: &b}
	return nil
}

// readSine parses a rate that swings.
func (f *generateFlags) readSine(text string) error {
	var s pacing.Sine
	if err := readParts(text, "1000/s:800/s:30s", rateFlag(&s.Mean), rateFlag(&s.Amplitude), durationFlag(&s.Period)); err != nil {
		return err
	}
	f.spec.Profile = &generators.Profile{Sine: &s}
	return nil
}

// readRates parses "0/s-5000/s", or a single rate, which is both ends.
func readRates(text string) (from, to float64, err error) {
	first, last, isRamp := strings.Cut(text, "-")
	if err := rateFlag(&from).Set(first); err != nil {
		if isRamp {
			return 0, 0, fmt.Errorf("%q is not a ramp, as 0/s-1000/s: %w", text, err)
		}
		return 0, 0, err
	}
	if !isRamp {
		return from, from, nil
	}
	if err := rateFlag(&to).Set(last); err != nil {
		return 0, 0, fmt.Errorf("%q is not a ramp, as 0/s-1000/s: %w", text, err)
	}
	return from, to, nil
}

// readParts parses values separated by colons.
func readParts(text, example string, values ...*flagValue) error {
	parts := strings.Split(text, ":")
	if len(parts) != len(values) {
		return fmt.Errorf("%q has %d of %d parts, as %s", text, len(parts), len(values), example)
	}
	for i, part := range parts {
		if err := values[i].Set(part); err != nil {
			return err
		}
	}
	return nil
}
