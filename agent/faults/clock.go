package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/actions"
)

func init() {
	makers[actions.ClockJump] = maker{checkClock, (*Set).clockJump}
}

// clockSubject is the distance of CLOCK_REALTIME from CLOCK_BOOTTIME, which no program can set.
const clockSubject = "CLOCK_REALTIME - CLOCK_BOOTTIME"

const (
	// clockTolerance bounds the error of a reading after the clock was set: the kernel adjusts its
	// source meanwhile, and clockOffset reads the two clocks one after the other.
	clockTolerance = 10 * time.Millisecond
	// clockReadings is the number of readings for one offset; the quickest counts.
	clockReadings = 8
)

// clockJump shifts the time of day by an offset. Connection tracking does not notice, since its
// timeouts count jiffies; the timestamps of entries and of logs change.
func (s *Set) clockJump(_ context.Context, f Fault) (*change, error) {
	before, err := clockOffset()
	if err != nil {
		return nil, err
	}
	// A time daemon may have corrected a part meanwhile: setTo corrects only the rest.
	setTo := func(offset time.Duration) error {
		now, err := clockOffset()
		if err != nil {
			return err
		}
		if by := offset - now; by.Abs() > time.Millisecond {
			if err := shiftClock(by); err != nil {
				return err
			}
		}
		now, err = clockOffset()
		if err == nil && (now-offset).Abs() > clockTolerance {
			err = fmt.Errorf("the clock is off by %v after it was set", now-offset)
		}
		return err
	}
	return &change{
		parts: []*part{{
			subject: clockSubject,
			read: func(context.Context) (string, error) {
				offset, err := clockOffset()
				return fmt.Sprintf("%.6f s", offset.Seconds()), err
			},
			restore: func(context.Context) error { return setTo(before) },
		}},
		do: func(context.Context) error { return setTo(before + f.Clock) },
	}, nil
}

func clockOffset() (time.Duration, error) {
	var best, offset time.Duration
	for i := range clockReadings {
		var begin, real, end unix.Timespec
		for _, reading := range []struct {
			clock int32
			into  *unix.Timespec
		}{{unix.CLOCK_BOOTTIME, &begin}, {unix.CLOCK_REALTIME, &real}, {unix.CLOCK_BOOTTIME, &end}} {
			if err := unix.ClockGettime(reading.clock, reading.into); err != nil {
				return 0, fmt.Errorf("read a clock: %w", err)
			}
		}
		if took := time.Duration(end.Nano() - begin.Nano()); i == 0 || took < best {
			best, offset = took, time.Duration(real.Nano()-begin.Nano())-took/2
		}
	}
	return offset, nil
}

// shiftClock adds to CLOCK_REALTIME in one step (ADJ_SETOFFSET, Linux 2.6.39, CAP_SYS_TIME).
func shiftClock(by time.Duration) error {
	seconds, rest := by/time.Second, by%time.Second
	if rest < 0 {
		seconds, rest = seconds-1, rest+time.Second
	}
	adjust := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	adjust.Time.Sec, adjust.Time.Usec = int64(seconds), int64(rest)
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &adjust); err != nil {
		return fmt.Errorf("set the clock by %v: %w", by, err)
	}
	return nil
}

func checkClock(f Fault) error {
	if f.Clock == 0 {
		return errors.New("by no time at all")
	}
	return nil
}
