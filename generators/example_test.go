package generators_test

import (
	"context"
	"fmt"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// Example sends a hundred requests, ten in flight, to a web server on loopback.
func Example() {
	ctx := context.Background()
	server, err := responders.Listen(ctx, responders.Spec{
		Kind: responders.HTTP, Address: "127.0.0.1", Ports: []uint16{0}, // a free port
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := generators.Run(ctx, generators.Spec{
		Kind: generators.HTTP, Target: "127.0.0.1", Ports: server.Ports(), Count: 100,
		Concurrency: 10,
	}, nil)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("offered:", result.Offered)
	fmt.Println("completed:", result.Completed)
	fmt.Println("status 200:", result.Statuses[200])
	fmt.Println("answered:", server.Counters().Requests)
	if err := server.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// offered: 100
	// completed: 100
	// status 200: 100
	// answered: 100
}

// ExampleRun_failures shows the causes of failures: here nothing listens on port 9 (discard).
func ExampleRun_failures() {
	result, err := generators.Run(context.Background(), generators.Spec{
		Kind: generators.TCP, Target: "127.0.0.1", Ports: []uint16{9}, Count: 20, Concurrency: 5,
	}, nil)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(result.Offered, "=", result.Completed, "+", result.Failed)
	fmt.Println(result.Causes)
	// Output:
	// 20 = 0 + 20
	// map[refused:20]
}
