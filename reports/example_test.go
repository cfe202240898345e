package reports_test

import (
	"fmt"
	"os"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
)

func failed(n int64) results.Attempts {
	return results.Attempts{Offered: 5000, Completed: new(5000 - n), Failed: n}
}

// A run has a conclusion, then a row and a line for each scenario.
func ExampleRender() {
	run := &results.Run{Experiment: "two sizes", Scenarios: []results.Scenario{
		{Name: "small", Trials: []results.Trial{{
			Number: 1, Verdict: results.TableFull, Sentence: "The table was full.",
			Load: &results.Load{Attempts: failed(904)},
			Conntrack: results.Conntrack{
				Peak: 4096, Max: 4096, Counters: results.Counters{Drop: 3616},
			},
		}}},
		{Name: "large", Trials: []results.Trial{{
			Number: 1, Verdict: results.NotConntrack, Sentence: "The server was too slow.",
			Load:      &results.Load{Attempts: failed(50)},
			Conntrack: results.Conntrack{Peak: 5004, Max: 65536},
		}}},
	}}
	if err := reports.Render(os.Stdout, "table", run, reports.Options{Width: 64}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// two sizes
	//
	// Broke    small: 904 of 5000 requests failed, 3616 packets
	//          refused
	//          also large (not-conntrack)
	// Change   No scenario met its thresholds or, without any, stayed
	//          clean.
	// Sure     one trial of each scenario (--trials 3 shows the
	//          scatter)
	//
	//                                                   fill
	// scenario  verdict        completed  failed  peak     %  drop
	// ────────────────────────────────────────────────────────────
	// small     table-full          4096     904  4096   100  3616
	// large     not-conntrack       4950      50  5004   7.6     0
	//
	// small  904 of 5000 requests failed, 3616 packets refused
	// large  50 of 5000 requests failed, nothing tracked
	//
	// left out: 12 columns (--wide), what each scenario saw
	//           (--verbose)
}
