package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/host"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// capturing compares the connections that a host serves under full load while something reads its
// table.
func (l *lab) capturing() row {
	const (
		lasts, begins = 10 * time.Second, time.Second
		standing      = 100_000
	)
	ports := []uint16{firstPort}
	spec := generators.Spec{
		Kind: generators.TCP, Target: routerAddress, Ports: ports, Concurrency: 100,
		Close: generators.CloseRST, Duration: lasts,
	}
	beside := func(name, program string, args ...string) contender {
		return contender{name, program, func(ctx context.Context) (float64, error) {
			if err := l.filled(ctx, standing); err != nil {
				return 0, err
			}
			read := make(chan error, 1)
			go func() {
				if len(args) == 0 {
					read <- nil
					return
				}
				err := rest(ctx, begins)
				if err == nil {
					_, err = output(l.in(ctx, "router", "", args...))
				}
				read <- err
			}()
			out, err := l.generator(ctx, "", spec)
			return out.Result.Rate(), errors.Join(err, <-read)
		}}
	}
	return row{
		name: "capturing", unit: "connections/s",
		work: fmt.Sprintf("connect and reset against a tracking host, all cores, for %v, while "+
			"its table of %d entries and more is read once", lasts, standing),
		setup: func(ctx context.Context) (func() error, error) {
			undo, err := l.rules("router", trackInput)(ctx)
			if err != nil {
				return nil, err
			}
			stop, err := l.responder("router",
				responders.Spec{Kind: responders.HTTP, Ports: ports})(ctx)
			if err != nil {
				return nil, errors.Join(err, undo())
			}
			return func() error {
				return errors.Join(stop(), l.forget(context.WithoutCancel(ctx)), undo())
			}, nil
		},
		contenders: []contender{
			beside("alone", ""),
			beside("beside ctload capture", "", selfPath, "capture",
				(lasts - 3*begins).String()),
			beside("beside conntrack -L", "conntrack", "sh", "-c", "conntrack -L >/dev/null 2>&1"),
		},
		wants: []want{
			atLeast(0.99, "beside ctload capture", "alone"),
		},
	}
}

// captureCost measures what a capture takes of the host, at a small and at a large table, beside a
// listing of the whole.
func (l *lab) captureCost() row {
	large := manyEntries()
	var took captureUsage
	of := func(n int) measurement {
		return func(ctx context.Context) (float64, error) {
			if err := l.filled(ctx, n); err != nil {
				return 0, err
			}
			out, err := output(l.in(ctx, "router", "", selfPath, "capture", "2s"))
			if err == nil {
				err = json.Unmarshal(out, &took)
			}
			return took.Milliseconds, err
		}
	}
	memory := func(context.Context) (float64, error) { return took.Megabytes, nil }
	name := func(what string, n int) string { return fmt.Sprintf("%s, %d entries", what, n) }
	list := func(ctx context.Context) (float64, error) {
		cmd := l.in(ctx, "router", "", "conntrack", "-L")
		_, err := l.tool(cmd)
		if err != nil {
			return 0, err
		}
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return float64(cpu.Microseconds()) / 1000, nil
	}
	r := row{
		name: "capture-cost", unit: "ms of CPU, MB", together: true,
		work: "a capture with two listings of 20000 entries, and its file",
		setup: func(context.Context) (func() error, error) {
			return func() error { return l.forget(context.Background()) }, nil
		},
	}
	for _, n := range []int{fewEntries, large} {
		r.contenders = append(r.contenders, contender{name("CPU", n), "", of(n)},
			contender{name("memory", n), "", memory})
		r.wants = append(r.wants, want{ours: name("CPU", n), most: 100},
			want{ours: name("memory", n), most: 20})
	}
	r.contenders = append(r.contenders,
		contender{name("CPU of conntrack -L", large), "conntrack", list})
	return r
}

// filled gives the router's table that many entries, and no others.
func (l *lab) filled(ctx context.Context, n int) error {
	if err := l.forget(ctx); err != nil {
		return err
	}
	_, err := output(l.in(ctx, "router", "", selfPath, "sample", strconv.Itoa(n), "1"))
	return err
}

// captureUsage holds the CPU time and the memory of a capture and of the tools that it ran.
type captureUsage struct {
	Milliseconds float64 `json:"cpu_ms"`
	Megabytes    float64 `json:"memory_mb"` // resident at most, without the pages of programs
}

// takeCapture captures its namespace, as ctload capture does, for as long as its argument says, and
// prints what that took.
func takeCapture(ctx context.Context, args []string, stdout io.Writer) error {
	watch, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	c, err := host.Take(ctx, host.Options{Watch: watch, Entries: host.DefaultEntries})
	if err != nil {
		return err
	}
	pseudonyms, err := capture.NewPseudonyms(false)
	if err != nil {
		return err
	}
	pseudonyms.Hide(c)
	if err := capture.Write(io.Discard, c); err != nil {
		return err
	}
	own, err := used(unix.RUSAGE_SELF)
	tools, toolsErr := used(unix.RUSAGE_CHILDREN)
	self, selfErr := procfs.Self()
	if err := errors.Join(err, toolsErr, selfErr); err != nil {
		return err
	}
	status, err := self.NewStatus()
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(captureUsage{
		float64((own + tools).Microseconds()) / 1000, float64(status.VmHWM-status.RssFile) / 1e6,
	})
}
