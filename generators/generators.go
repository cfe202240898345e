// Package generators makes load for a connection-tracking table, and the responders that it
// needs. It knows nothing of virtual machines: a [Spec] goes in, a [Result] comes out.
//
// # How the load is made
//
// Sockets are driven by one thread for each core, each with its own epoll instance, without a
// goroutine for each connection; packets by AF_PACKET sockets that send batches patched from a
// template. The times of the sends come from an absolute schedule ([pacing]), latency counts from
// the time that was intended, and addresses and ports from an allocator ([tuples]).
//
// # What is counted
//
// Whatever was begun is Offered, and ends as Completed or as Failed under one [Cause]:
// Offered = Completed + Failed and Failed = sum of Causes hold for every [Result], also when the
// context ended first (what was unfinished then failed as [Cancelled]).
//
// Linux only; kernels from 4.19 on, with better timing from 5.11 on.
package generators

import (
	"context"
	"fmt"
)

// Run makes the load and returns when it has ended; progress, which may be nil, is called about
// ten times a second and once at the end, never concurrently. When ctx ends first, the result
// holds what was done until then beside ctx's error. Any other error means that the load was not
// made as specified, and the result is not to be used.
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
