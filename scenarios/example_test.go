package scenarios_test

import (
	"errors"
	"fmt"

	"github.com/ctload/ctload/scenarios"
)

// A scenario inherits what the experiment says, and a list of values gives a scenario for each.
func ExampleParse() {
	experiment, warnings, err := scenarios.Parse("sizes.yaml", []byte(`
experiment: sizes
dut:
  memory: 1GiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: http, requests: 5000, concurrency: 100}
scenarios:
  baseline: {}
  larger:
    sysctl: {net.netfilter.nf_conntrack_max: 65536}
    buckets: [16384, 65536]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range warnings {
		fmt.Println(w)
	}
	for _, s := range experiment.Resolve() {
		most, given := s.DUT.Sysctl.Get("net.netfilter.nf_conntrack_max")
		if !given {
			most = "the kernel's own"
		}
		fmt.Printf("%s: %d requests, max %s\n", s.Name, s.Workload[0].Number(), most)
	}
	// Output:
	// baseline: 5000 requests, max the kernel's own
	// larger@buckets=16384: 5000 requests, max 65536
	// larger@buckets=65536: 5000 requests, max 65536
}

// An error names each place, and the word that was meant.
func ExampleParse_mistakes() {
	_, _, err := scenarios.Parse("sizes.yaml", []byte(`experiment: sizes
workload:
  - {generator: htpp, requests: 5000, concurency: 100}
`))
	if invalid, ok := errors.AsType[*scenarios.InvalidError](err); ok {
		for _, p := range invalid.Problems {
			fmt.Println(p)
		}
	}
	// Output:
	// sizes.yaml:3:17: "htpp" is not valid here; did you mean "http"?
	// sizes.yaml:3:39: unknown key "concurency"; did you mean "concurrency"?
}

// A shipped experiment is loaded by its name.
func ExampleLoad() {
	experiment, _, err := scenarios.Load("table-full")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(experiment.Name)
	for _, s := range experiment.Resolve() {
		fmt.Println("-", s.Name)
	}
	// Output:
	// table-full
	// - baseline
	// - raised-max
	// - shortened-timeouts
	// - raw-notrack
}
