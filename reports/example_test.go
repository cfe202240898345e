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

// A run has a row for each scenario, and under the table what happened in it.
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
	//                                                         early_
	// scenario  verdict        completed  failed  peak  drop    drop
	// ──────────────────────────────────────────────────────────────
	// small     table-full          4096     904  4096  3616       0
	// large     not-conntrack       4950      50  5004     0       0
	//
	// small  The table was full.
	// large  The server was too slow.
	//
	// No scenario met its thresholds or, without any, stayed clean.
	//
	// note: left out at 64 columns: fill %, connect p99 ms, conn/s,
	//       max, seconds to full, insert_failed, log lines, connect
	//       p50 ms, connect max ms, offered, buckets, seconds (--wide
	//       shows all)
}
