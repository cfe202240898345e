package samplers

import (
	"context"
	"time"
)

// schedule calls tick at start, start+interval, start+2*interval and so on, until ctx ends or tick
// fails. It skips ticks whose time has passed while one ran, or while the machine stood still;
// missed is their number so far.
func schedule(ctx context.Context, interval time.Duration, tick func(missed int64) error) error {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	var missed int64
	for k := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := tick(missed); err != nil {
			return err
		}
		k++
		// The present tick is late, not missed, while its own interval lasts.
		if behind := int64(time.Since(start)/interval) - k; behind > 0 {
			missed += behind
			k += behind
		}
		timer.Reset(time.Until(start.Add(time.Duration(k) * interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
