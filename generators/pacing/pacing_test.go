package pacing

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// drive takes slots from a pacer as a worker does, on the bubble's fake clock. It returns when each
// was taken and when it was due. It calls stall, which may sleep, before each Take.
func drive(p *Pacer, batch int, stall func(now time.Duration)) (taken, due []time.Duration) {
	start := time.Now()
	intended := make([]time.Duration, batch)
	for {
		if stall != nil {
			stall(time.Since(start))
		}
		now := time.Since(start)
		_, n, wait := p.Take(now, intended)
		for _, at := range intended[:n] {
			taken, due = append(taken, now), append(due, at)
		}
		if n > 0 {
			continue
		}
		if wait < 0 {
			return taken, due
		}
		time.Sleep(wait)
	}
}

func TestPacerKeepsTheSchedule(t *testing.T) {
	for _, test := range []struct {
		name     string
		schedule Schedule
		limits   Limits
		want     int
	}{
		{"1k", Constant(1000), Limits{Duration: 10 * time.Second}, 10_000},
		{"10k", Constant(10_000), Limits{Duration: 10 * time.Second}, 100_000},
		{"50k", Constant(50_000), Limits{Duration: 10 * time.Second}, 500_000},
		{"count", Constant(3), Limits{Count: 100}, 100},
		{"count before duration", Constant(1000), Limits{Count: 5, Duration: time.Second}, 5},
		{"duration before count", Constant(1000), Limits{Count: 5000, Duration: time.Second}, 1000},
		{
			"stages",
			Stages{{0, 1000, time.Second}, {1000, 1000, time.Second}, {1000, 0, time.Second}},
			Limits{}, 2000,
		},
		{
			"bursts", Bursts{Size: 100, Every: 500 * time.Millisecond},
			Limits{Duration: 2 * time.Second}, 400,
		},
		{
			"sine", Sine{Mean: 1000, Amplitude: 1000, Period: time.Second},
			Limits{Duration: 5 * time.Second}, 5000,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPacer(test.schedule, test.limits)
				taken, due := drive(p, 64, nil)
				if len(taken) != test.want || p.Missed() != 0 {
					t.Errorf("%d slots were taken and %d missed, want %d",
						len(taken), p.Missed(), test.want)
				}
				for i := range taken {
					if taken[i] != due[i] {
						t.Fatalf("slot %d was due at %s and taken at %s", i, due[i], taken[i])
					}
				}
				if !p.Over() {
					t.Error("it is not over")
				}
			})
		})
	}
}

// TestPacerHeldUp checks that a delayed generator gives slots up instead of sending a burst, and
// the next slots keep their times. With CatchUp it sends all.
func TestPacerHeldUp(t *testing.T) {
	for _, catchUp := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer(Constant(1000), Limits{Duration: time.Second, CatchUp: catchUp})
			held := false
			taken, due := drive(p, 64, func(now time.Duration) {
				if !held && now >= 300*time.Millisecond {
					held = true
					time.Sleep(200*time.Millisecond + 500*time.Microsecond)
				}
			})
			if int64(len(taken))+p.Missed() != 1000 {
				t.Errorf("%d taken and %d missed are not 1000", len(taken), p.Missed())
			}
			// From 300 to 500 ms 201 slots were due; the last 19 are no burst.
			if want := int64(201 - (backlog - 1)); !catchUp && p.Missed() != want {
				t.Errorf("%d slots were missed, want %d", p.Missed(), want)
			}
			if catchUp && p.Missed() != 0 {
				t.Errorf("%d slots were missed in spite of catching up", p.Missed())
			}
			for i := range taken {
				late := taken[i] - due[i]
				if !catchUp && late > backlog*time.Millisecond {
					t.Fatalf("slot %d was taken %s late", i, late)
				}
				if due[i]%time.Millisecond != 0 {
					t.Fatalf("slot %d is due at %s, off the schedule", i, due[i])
				}
				if due[i] > 501*time.Millisecond && late != 0 {
					t.Fatalf("slot %d at %s is still late by %s", i, due[i], late)
				}
			}
		})
	}
}

// TestPacerCount_MissedSlots checks that slots that were given up count, and lengthen no load.
func TestPacerCount_MissedSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(Constant(1000), Limits{Count: 1500})
		held := false
		taken, due := drive(p, 8, func(now time.Duration) {
			if !held && now > 900*time.Millisecond {
				held = true
				time.Sleep(200 * time.Millisecond)
			}
		})
		last := due[len(due)-1]
		if int64(len(taken))+p.Missed() != 1500 || last != 1499*time.Millisecond {
			t.Errorf("%d were taken, the last at %s, %d missed", len(taken), last, p.Missed())
		}
		seconds, _ := p.Delivered()
		if len(seconds) != 2 || seconds[0].Due != 1000 || seconds[1].Due != 500 ||
			min(seconds[0].Missed, seconds[1].Missed) < 80 ||
			seconds[0].Missed+seconds[1].Missed != p.Missed() {
			t.Errorf("by second: %+v, %d missed", seconds, p.Missed())
		}
	})
}

// TestPacerFewLateSlots checks that slots of a low rate are sent late rather than given up, up to a
// second.
func TestPacerFewLateSlots(t *testing.T) {
	for _, test := range []struct {
		rate   float64
		count  int64
		stall  time.Duration
		missed int64
	}{
		{30, 200, 600 * time.Millisecond, 0},
		{100, 200, 180 * time.Millisecond, 0},
		{100, 200, 250 * time.Millisecond, 7}, // 26 were due, of which 19 are no burst
		{100, 119, 250 * time.Millisecond, 0}, // no more than 19 were left
		{5, 200, 1900 * time.Millisecond, 5},  // 10 were due, half of them more than a second ago
	} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer(Constant(test.rate), Limits{Count: test.count})
			held := false
			taken, _ := drive(p, 8, func(now time.Duration) {
				if !held && now >= time.Second {
					held = true
					time.Sleep(test.stall)
				}
			})
			if p.Missed() != test.missed || int64(len(taken)) != test.count-test.missed {
				t.Errorf("%v/s held up for %v: %d were taken and %d missed, want %d",
					test.rate, test.stall, len(taken), p.Missed(), test.missed)
			}
		})
	}
}

// TestPacerBursts checks that the slots of a burst wait until the next one, however many they are,
// that slots that were given up add no burst, and the widths.
func TestPacerBursts(t *testing.T) {
	for _, test := range []struct {
		each   time.Duration // what a batch of 64 takes
		longer time.Duration // what the longest burst took at least
		all    bool          // every slot is taken
	}{
		{20 * time.Millisecond, 280 * time.Millisecond, true},
		{100 * time.Millisecond, 900 * time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer(Bursts{Size: 1000, Every: time.Second}, Limits{Count: 3000})
			taken, due := drive(p, 64, func(now time.Duration) {
				if now > 0 {
					time.Sleep(test.each)
				}
			})
			last := due[len(due)-1]
			if int64(len(taken))+p.Missed() != 3000 || (p.Missed() == 0) != test.all ||
				last != 2*time.Second {
				t.Errorf("%d of 3000 were taken, the last of the burst at %v, %d missed",
					len(taken), last, p.Missed())
			}
			_, w := p.Delivered()
			if w.Bursts != 3 || w.Longest < test.longer || w.Longest >= time.Second ||
				w.Mean() > w.Longest || 2*w.Mean() < test.longer {
				t.Errorf("widths: %+v", w)
			}
		})
	}
}

// TestPacerShared checks that each slot goes to exactly one of the workers that share a pacer.
func TestPacerShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(Constant(10_000), Limits{Duration: time.Second})
		const workers = 4
		results := make(chan []time.Duration)
		for range workers {
			go func() {
				_, due := drive(p, 3, nil)
				results <- due
			}()
		}
		seen := make(map[time.Duration]bool)
		for range workers {
			for _, at := range <-results {
				if seen[at] {
					t.Errorf("the slot at %s was handed out twice", at)
				}
				seen[at] = true
			}
		}
		if len(seen) != 10_000 {
			t.Errorf("%d slots were handed out", len(seen))
		}
	})
}

func TestPacerClosedLoop(t *testing.T) {
	p := NewPacer(nil, Limits{Count: 10, Duration: time.Second})
	buffer := make([]time.Duration, 4)
	for i, want := range []struct {
		first int64
		n     int
	}{{0, 4}, {4, 4}, {8, 2}} {
		if first, n, wait := p.Take(time.Millisecond, buffer); first != want.first || n != want.n ||
			wait != 0 || buffer[0] != time.Millisecond {
			t.Errorf("take %d: %d from %d, wait %s, for %s", i, n, first, wait, buffer[0])
		}
	}
	if _, n, wait := p.Take(0, buffer); n != 0 || wait >= 0 {
		t.Errorf("after the count: %d, wait %s", n, wait)
	}
	p = NewPacer(nil, Limits{Duration: time.Second})
	if _, n, wait := p.Take(time.Second, buffer); n != 0 || wait >= 0 || !p.Over() {
		t.Errorf("after the duration: %d, wait %s", n, wait)
	}
	p = NewPacer(Constant(1), Limits{Count: 1})
	p.Stop()
	if _, n, wait := p.Take(0, buffer); n != 0 || wait >= 0 {
		t.Errorf("after Stop: %d, wait %s", n, wait)
	}
}

// TestSchedules checks that the times of every schedule never decrease, and the number of sends
// until a time is the integral of the rate.
func TestSchedules(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		mean := 1 + 1000*random.Float64()
		period := time.Duration(1+random.IntN(5000)) * time.Millisecond
		stages := Stages{
			{mean, 3 * mean, period}, {3 * mean, 3 * mean, period}, {3 * mean, 0, period},
		}
		for name, test := range map[string]struct {
			schedule Schedule
			count    func(t float64) float64
		}{
			"constant": {Constant(mean), func(t float64) float64 { return mean * t }},
			"sine":     {Sine{mean, mean / 2, period}, Sine{mean, mean / 2, period}.count},
			"stages": {stages, func(t float64) float64 {
				p := period.Seconds()
				n, x := 0.0, min(t, p)
				n += mean*x + mean*x*x/p
				if x = min(t-p, p); x > 0 {
					n += 3 * mean * x
				}
				if x = min(t-2*p, p); x > 0 {
					n += 3*mean*x - 1.5*mean*x*x/p
				}
				return n
			}},
		} {
			var last time.Duration
			for k := range int64(3000) {
				at, ok := test.schedule.At(k)
				if !ok {
					if name != "stages" || float64(k) < 6.5*mean*period.Seconds()-1 {
						t.Fatalf("%s ends at send %d", name, k)
					}
					break
				}
				if at < last {
					t.Fatalf("%s: send %d at %s is before its predecessor at %s", name, k, at, last)
				}
				last = at
				if n := test.count(at.Seconds()); math.Abs(n-float64(k)) > 1e-3 {
					t.Fatalf("%s %v, %s: until send %d at %s the rate adds up to %f",
						name, mean, period, k, at, n)
				}
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for _, bad := range []interface{ Validate() error }{
		Stages{{1, 1, 0}}, Stages{{-1, 1, time.Second}}, Stages{{0, 0, time.Second}}, Stages{
			{math.NaN(), 1, time.Second},
		}, Stages{{math.Inf(1), 1, time.Second}},
		Bursts{}, Bursts{Size: 1}, Bursts{Every: 1},
		Sine{}, Sine{
			Mean: 1, Amplitude: 2, Period: time.Second,
		}, Sine{Mean: 1, Amplitude: -1, Period: time.Second}, Sine{Mean: 1},
	} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%#v was accepted", bad)
		}
	}
	for _, good := range []interface{ Validate() error }{
		Stages{{0, 100, time.Second}}, Bursts{1, 1}, Sine{1, 1, time.Second},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%#v: %v", good, err)
		}
	}
}
