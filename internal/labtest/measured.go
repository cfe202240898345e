package labtest

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/results"
)

// attempts limits how often a test measures.
const attempts = 5

// Repeat calls measure until the measurement is good, as users would on a busy host. An emulated
// guest and its generator need a CPU each, and do not always get one. After the last attempt the
// test judges what it has.
func Repeat(t testing.TB, measure func() (good bool)) {
	t.Helper()
	for attempt := 1; !measure() && attempt < attempts; attempt++ {
		t.Log("the host has spoilt this measurement: once more")
	}
}

// busyHost lists the codes of an INVALID trial that the host causes.
var busyHost = []results.Code{
	results.CodePacing, results.CodeStalled, results.CodeClock, results.CodeSteal, results.CodeLostCPU,
}

// Spoilt reports whether a trial is INVALID only for reasons that the host causes.
func Spoilt(trial results.Trial) bool {
	return trial.Verdict == results.Invalid &&
		!slices.ContainsFunc(trial.InvalidCodes, func(code results.Code) bool { return !slices.Contains(busyHost, code) })
}

// SpoiltIn returns the names of the scenarios with a trial that the host has spoilt. It returns nil
// when a trial is INVALID for another reason, which a new measurement would hide.
func SpoiltIn(run *results.Run) (names []string) {
	for _, s := range run.Scenarios {
		for _, trial := range s.Trials {
			switch {
			case Spoilt(trial):
				names = append(names, s.Name)
			case trial.Verdict == results.Invalid:
				return nil
			}
		}
	}
	return slices.Compact(names)
}
