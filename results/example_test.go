package results_test

import (
	"fmt"

	"github.com/ctload/ctload/results"
)

// The folder of a run holds the model, and beside it what was sampled.
func Example() {
	folder, err := results.Open("../cmd/ctload/testdata/runs/before")
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := folder.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range run.Scenarios {
		for _, t := range s.Trials {
			samples, probes, err := folder.Series(&t)
			if err != nil {
				fmt.Println(err)
			}
			fmt.Printf("%s, trial %d: %s, peak %d, %d samples, %d probes\n",
				s.Name, t.Number, t.Verdict, t.Conntrack.Peak, len(samples), len(probes))
		}
	}
	// Output:
	// tracked, trial 1: clean, peak 314, 16 samples, 14 probes
	// notrack, trial 1: clean, peak 0, 14 samples, 12 probes
}

// The kernel's counters give the verdict.
func ExampleJudge() {
	trial := results.Trial{
		Entries: map[string]results.Entry{"http": {Attempts: results.Attempts{
			Unit: "requests", Offered: 5000, Completed: new(int64(4096)), Failed: 904,
			Causes: map[string]int64{results.CauseTimeout: 904},
		}}},
		Conntrack: results.Conntrack{
			Tracked: true, Peak: 4096, Max: 4096,
			Counters: results.Counters{Drop: 3616, EarlyDrop: 17},
		},
	}
	results.Judge(&trial)
	fmt.Println(trial.Verdict, "and", trial.Also)

	lossless, err := results.CompileThreshold("conntrack.drop == 0", results.Workload{})
	if err != nil {
		fmt.Println(err)
		return
	}
	holds, actual, err := lossless.Check(&trial)
	fmt.Printf("%s: %v, %s, %v\n", lossless, holds, actual, err)
	// Output:
	// table-full and evicting
	// conntrack.drop == 0: false, conntrack.drop = 3616, <nil>
}
