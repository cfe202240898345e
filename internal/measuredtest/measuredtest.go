// Package measuredtest tells tests which trials a busy host has spoilt, so that those are measured again, as
// users would: an emulated guest and its generator want a CPU each, and on a host with other work do not always
// get one.
package measuredtest

import (
	"slices"

	"github.com/ctload/ctload/results"
)

// Attempts is how often a test measures at most.
const Attempts = 5

// busyHost are the reasons why a trial is INVALID that are the host's doing.
var busyHost = []results.Code{
	results.CodePacing, results.CodeStalled, results.CodeClock, results.CodeSteal, results.CodeLostCPU,
}

// Spoilt reports whether a trial is INVALID for reasons that are all the host's doing.
func Spoilt(trial results.Trial) bool {
	return trial.Verdict == results.Invalid &&
		!slices.ContainsFunc(trial.InvalidCodes, func(code results.Code) bool { return !slices.Contains(busyHost, code) })
}

// SpoiltIn names the scenarios of a run that have a trial which the host has spoilt. It is nothing when a trial
// is INVALID for any other reason: measuring again would only hide that.
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
