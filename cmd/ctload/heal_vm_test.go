package main

import (
	"math"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestEmergencyFixes runs three scenarios of the shipped experiment and compares the times in which
// they healed, or did not, with the bystander's own log: the first answer after the fix without a
// lost probe after it.
func TestEmergencyFixes(t *testing.T) {
	needsTime(t)
	// On a busy host answers come late, and a bystander that gives up after a second counts that as
	// a loss: the test then tries the claims once more, in valid trials. In each of those both
	// accounts must agree.
	labtest.Twice(t, func(try testing.TB) { emergencyFixes(t, try) })
}

// emergencyFixes reports to try the claims that did not hold.
func emergencyFixes(t *testing.T, try testing.TB) {
	t.Helper()
	o, out := measuredRun(t, 10*time.Minute, "emergency-fixes",
		"--scenario", "no-fix,max-raised,timeouts-shortened")
	if o.status != statusOK {
		try.Errorf("exit status %d: %s", o.status, o.stderr)
	}
	folder, err := results.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range decode(t, o.stdout).Scenarios {
		trial := s.Trials[0]
		t.Logf("%s: %s", s.Name, results.Insights(&trial))
		for _, outcome := range s.Thresholds {
			if !outcome.Passed {
				try.Errorf("%s: %s does not hold: %s", s.Name, outcome.Expression, outcome.Actual)
			}
		}
		if trial.Heal == nil {
			try.Errorf("%s: nothing is said of its steady state: %s", s.Name, trial.Sentence)
			continue
		}
		samples, probes, err := folder.Series(&trial)
		if err != nil {
			t.Fatal(err)
		}
		since := 0.0
		if len(trial.Actions) > 0 && trial.Actions[0].Begun != nil {
			since = *trial.Actions[0].Begun
		}
		// ctload sees losses at its samples: it may count a loss that is alone for about a second
		// or not.
		agrees, got := false, math.NaN()
		if trial.Heal.Healed != nil {
			got = *trial.Heal.Healed
		}
		var byLog []float64
		for _, alone := range []float64{0.9, 1.1, 1.3} {
			healed := healedByLog(probes, trial.Seconds, alone)
			byLog = append(byLog, healed)
			agrees = agrees || math.IsNaN(got) && math.IsNaN(healed) ||
				math.Abs(got-max(healed, since)) <= longestInterval(samples, got)
		}
		if !agrees {
			t.Errorf("%s: healed at %v s, by the bystander's log at one of %v s (the fix at %v s)",
				s.Name, got, byLog, since)
		}
		if s.Name == "max-raised" && (len(trial.Actions) != 1 ||
			trial.Actions[0].Effects[0].After != "65536" || trial.Conntrack.Max != 65536) {
			t.Errorf("the fix was not read back: %+v, max %d", trial.Actions, trial.Conntrack.Max)
		}
	}
}

// healedByLog returns when the first answered probe was sent that no lost one followed for at least
// two seconds under the load; NaN without one. A single lost probe, with noise seconds in order on
// both sides, does not count.
func healedByLog(probes []results.ProbeSample, end, noise float64) float64 {
	var lost []float64
	for _, p := range probes {
		if !p.OK && p.Seconds <= end {
			lost = append(lost, p.Seconds)
		}
	}
	last := math.Inf(-1)
	for i, at := range lost {
		alone := (i == 0 || at-lost[i-1] > noise) && (i == len(lost)-1 || lost[i+1]-at > noise)
		if !alone {
			last = at
		}
	}
	for _, p := range probes {
		if p.Seconds > last && p.OK {
			if end-p.Seconds < 2 {
				break
			}
			return p.Seconds
		}
	}
	return math.NaN()
}

// longestInterval returns the longest time between two samples around a moment, within which
// nothing is known.
func longestInterval(samples []results.Sample, at float64) float64 {
	longest := 0.1
	for i := 1; i < len(samples); i++ {
		if math.Abs(samples[i].Seconds-at) < 1 {
			longest = max(longest, samples[i].Seconds-samples[i-1].Seconds)
		}
	}
	return longest + 0.01
}
