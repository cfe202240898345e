// Package generators makes load for a connection-tracking table, and the responders that it needs.
// It knows nothing of virtual machines: a [Spec] goes in, a [Result] comes out.
//
// # How the load is made
//
// One thread for each core drives the sockets, each with its own epoll instance, without a
// goroutine for each connection. AF_PACKET sockets send packets in batches patched from a template.
// The times of the sends come from an absolute schedule ([pacing]), latency counts from the
// intended time, and addresses and ports come from an allocator ([tuples]).
//
// # What is counted
//
// Everything that begins is Offered, and ends as Completed or as Failed under one [Cause]: Offered
// = Completed + Failed and Failed = sum of Causes hold for every [Result], also when the context
// ended first (what was unfinished then failed as [Cancelled]).
//
// Linux only; kernels from 4.19 on, with better timing from 5.11 on.
package generators

import (
	"context"
	"fmt"
)

// Run makes the load and returns when it has ended. It calls progress, which may be nil, about ten
// times a second and once at the end, never concurrently. When ctx ends first, Run returns ctx's
// error and a result with what was done until then. Any other error means that the load was not
// made as specified: the result is not valid.
func Run(ctx context.Context, spec Spec, progress func(Progress)) (Result, error) {
	plan, err := spec.plan()
	if err != nil {
		return Result{}, fmt.Errorf("%s load: %w", spec.Kind, err)
	}
	result, err := plan.run(ctx, progress)
	if err != nil {
		return result, fmt.Errorf("%s load to %s: %w", spec.Kind, spec.Target, err)
	}
	return result, nil
}
