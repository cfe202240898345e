package reports

import (
	"bytes"
	"fmt"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/metrics"
)

// renderOpenMetrics writes the samples of all valid trials with their times, as OpenMetrics.
func renderOpenMetrics(b *bytes.Buffer, run *results.Run, o Options) error {
	var list []metrics.Series
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for t := range s.ValidTrials() {
			series, err := seriesOf(run, s.Name, t, o.Series)
			if err != nil {
				return err
			}
			list = append(list, series)
		}
	}
	return metrics.WriteOpenMetrics(b, list)
}

// seriesOf reads the samples of a trial.
func seriesOf(
	run *results.Run, scenario string, t *results.Trial, source SeriesSource,
) (metrics.Series, error) {
	m := metrics.Series{Run: run.ID, Scenario: scenario, Trial: t.Number, Zero: t.Started}
	if source == nil {
		return m, nil
	}
	var err error
	if m.Samples, _, err = source.Series(t); err != nil {
		return m, fmt.Errorf("reading trial %d of %s: %w", t.Number, scenario, err)
	}
	return m, nil
}
