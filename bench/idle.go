package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// busy is the used CPU time, in clock ticks: of the machine, and of this program with the other
// processes of its PID namespace.
type busy struct {
	machine, total, own float64
}

// ticks is the unit of /proc/stat, the same on every Linux that Go runs on.
const ticks = 100

func readBusy() (busy, error) {
	file, err := os.Open("/proc/stat")
	if err != nil {
		return busy{}, err
	}
	defer func() { _ = file.Close() }() // only read
	line, err := bufio.NewReader(file).ReadString('\n')
	if err != nil {
		return busy{}, err
	}
	var b busy
	for i, field := range strings.Fields(line)[1:9] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return busy{}, fmt.Errorf("reading /proc/stat: %w", err)
		}
		b.total += n
		if i != 3 && i != 4 { // idle, and waiting for I/O
			b.machine += n
		}
	}
	for _, who := range []int{unix.RUSAGE_CHILDREN, unix.RUSAGE_SELF} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			return busy{}, err
		}
		b.own += ticks * time.Duration(usage.Utime.Nano()+usage.Stime.Nano()).Seconds()
	}
	running, err := running()
	b.own += running
	return b, err
}

// running returns the CPU time of the namespace's live processes, without this one.
func running() (float64, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || strings.HasPrefix(file, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			continue // it has ended, and counts among the children waited for
		}
		_, rest, _ := strings.Cut(string(data), ") ") // past the name
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			continue
		}
		for _, field := range fields[11:13] { // user and system time
			n, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s: %w", file, err)
			}
			sum += n
		}
	}
	return sum, nil
}

// waitIdle waits until this percentage of the machine is idle.
func waitIdle(ctx context.Context, percent float64) error {
	for deadline := time.Now().Add(10 * time.Minute); percent > 0; {
		before, err := readBusy()
		if err != nil {
			return err
		}
		if err := rest(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		after, err := readBusy()
		if err != nil {
			return err
		}
		if 100*(after.machine-before.machine)/(after.total-before.total) <= 100-percent {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the machine was not idle for 10 minutes")
		}
	}
	return nil
}

// undisturbed measures while other work uses no more than the allowed share, up to three times, and
// returns the least disturbed measurement and its disturbance.
func (c contender) undisturbed(ctx context.Context, l *lab, idle float64, wait bool) (value, others float64, err error) {
	var spent cpu // by the returned measurement
	for try := range 3 {
		if wait {
			if err := waitIdle(ctx, idle); err != nil {
				return 0, 0, err
			}
		}
		before, err := readBusy()
		if err != nil {
			return 0, 0, err
		}
		if wait {
			l.spent = cpu{}
		}
		limited, cancel := context.WithTimeout(ctx, limitForEach)
		got, err := c.measure(limited)
		cancel()
		if err != nil {
			return 0, 0, err
		}
		after, err := readBusy()
		if err != nil {
			return 0, 0, err
		}
		disturbed := 0.0
		if total := after.total - before.total; total > 0 {
			disturbed = max(0, 100*(after.machine-before.machine-(after.own-before.own))/total)
		}
		if try == 0 || disturbed < others {
			value, others, spent = got, disturbed, l.spent
		}
		if idle == 0 || !wait || others <= 100-idle {
			break
		}
	}
	l.spent = spent
	return value, others, nil
}
