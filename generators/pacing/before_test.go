package pacing

import (
	"math"
	"testing"
	"time"
)

// TestBefore holds the number of sends before a time to the times of the sends.
func TestBefore(t *testing.T) {
	for name, schedule := range map[string]Counter{
		"constant": Constant(130),
		"stages": Stages{
			{0, 200, 3 * time.Second}, {200, 50, 2 * time.Second}, {0, 0, time.Second},
			{70, 70, 4 * time.Second},
		},
		"bursts": Bursts{Size: 40, Every: 700 * time.Millisecond},
		"sine":   Sine{Mean: 100, Amplitude: 80, Period: 4 * time.Second},
	} {
		k := int64(0)
		for at := time.Duration(0); at < 12*time.Second; at += 37 * time.Millisecond {
			for {
				if due, ok := schedule.At(k); !ok || due >= at {
					break
				}
				k++
			}
			if got := schedule.Before(at); math.Abs(got-float64(k)) > 1 {
				t.Errorf("%s: %v sends before %v, the schedule has %d", name, got, at, k)
			}
		}
	}
}
