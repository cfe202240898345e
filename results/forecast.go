package results

import "github.com/ctload/ctload/internal/kernels"

// Forecast is what the arithmetic alone says of a scenario: what becomes of the load with its settings, and
// what would carry it.
type Forecast struct {
	Scenario string `json:"scenario"`
	Kernel   string `json:"kernel"` // version that the rules and defaults are taken of
	// Tracked tells whether the kernel will track anything of the load; without, the rest is zero.
	Tracked    bool         `json:"tracked"`
	Table      kernels.Size `json:"table"` // as the scenario sets it, or the kernel's own
	Prediction Prediction   `json:"prediction"`
	// Plan is a table that carries the load; nil where none is needed, or none does, as Reason says.
	Plan   *Plan  `json:"plan,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Fill is the predicted peak as a share of max, 0 where there is no limit.
func (f Forecast) Fill() float64 {
	if f.Table.Max <= 0 {
		return 0
	}
	return float64(f.Prediction.Peak) / float64(f.Table.Max)
}
