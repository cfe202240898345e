package orchestrator

import (
	"math"
	"testing"
	"time"
)

// guestClock makes readings of a clock that runs faster by the given share.
func guestClock(start time.Time, faster float64, at ...time.Duration) *clock {
	c := new(clock)
	for _, passed := range at {
		there := time.Duration(float64(passed) * (1 + faster))
		c.add(reading{here: start.Add(passed), there: there, uncertainty: time.Millisecond})
	}
	return c
}

// TestClockThatGoesTooFast: a clock that is 1.4 % fast puts a moment after 30 s some 420 ms off, if
// it is only compared before.
func TestClockThatGoesTooFast(t *testing.T) {
	start := time.Now()
	c := guestClock(start, 0.014, 0, 10*time.Second, 60*time.Second)
	for _, passed := range []time.Duration{0, 5 * time.Second, 30 * time.Second, 60 * time.Second} {
		there := time.Duration(float64(passed) * 1.014)
		if off := c.at(there).Sub(start.Add(passed)).Abs(); off > time.Microsecond {
			t.Errorf("after %v it is %v off", passed, off)
		}
	}
	s := c.summary(0)
	if math.Abs(s.DriftPPM-14000) > 1 || s.Readings != 3 || s.ErrorMillis != 1 {
		t.Errorf("%+v", s)
	}
}

// TestClockThatStoodStill: a comparison in between, or figures that come before their time, show
// that a clock stood still for five seconds.
func TestClockThatStoodStill(t *testing.T) {
	start := time.Now()
	stopped := new(clock)
	for _, passed := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
		there := passed
		if passed > 5*time.Second {
			there -= 5 * time.Second
		}
		stopped.add(reading{here: start.Add(passed), there: there})
	}
	if s := stopped.summary(0); s.ErrorMillis < 1000 {
		t.Errorf("%+v; want an error of seconds", s)
	}
	unwatched := &clock{readings: []reading{stopped.readings[0], stopped.readings[2]}}
	s := &series{clock: unwatched, samples: []taken{{clock: unwatched, there: 5 * time.Second,
		arrived: start.Add(5 * time.Second)}}}
	if early := s.early(); early < time.Second {
		t.Errorf("a sample of before the stop is %v early, want seconds", early)
	}
}

// TestClockThatWasPaused: a clock with a known pause is right on both sides of it, and as exact as
// before.
func TestClockThatWasPaused(t *testing.T) {
	start := time.Now()
	c := guestClock(start, 0, 0, 4*time.Second)
	for _, r := range []reading{
		{here: start.Add(5 * time.Second), there: 5 * time.Second, step: true},
		{here: start.Add(8 * time.Second), there: 5 * time.Second, step: true},
		{here: start.Add(9 * time.Second), there: 6 * time.Second, uncertainty: time.Millisecond},
		{here: start.Add(20 * time.Second), there: 17 * time.Second, uncertainty: time.Millisecond},
	} {
		c.add(r)
	}
	for there, passed := range map[time.Duration]time.Duration{
		4500 * time.Millisecond: 4500 * time.Millisecond,
		5500 * time.Millisecond: 8500 * time.Millisecond, 10 * time.Second: 13 * time.Second,
	} {
		if off := c.at(there).Sub(start.Add(passed)).Abs(); off > time.Microsecond {
			t.Errorf("at %v it is %v off", there, off)
		}
	}
	if s := c.summary(0); s.ErrorMillis > 1.01 || math.Abs(s.DriftPPM) > 1 {
		t.Errorf("%+v", s)
	}
}

func TestClockWithoutReadings(t *testing.T) {
	if s := new(clock).summary(0); s != nil {
		t.Errorf("%+v from nothing", s)
	}
	one := guestClock(time.Now(), 0, 0)
	if got := one.at(time.Second).Sub(one.at(0)); got != time.Second {
		t.Errorf("a second takes %v", got)
	}
}
