package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/actions"
)

// EaterRole is the name under which this program takes CPU time or memory. The eater is a child
// process of the agent, so that the kernel throttles or kills it and not the agent.
const EaterRole = "ctload-eater"

// RunEater takes CPU time or memory in a process called [EaterRole]: its arguments are the kind and
// the amount. It ends when its standard input does, which means that the agent has gone.
func RunEater() int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(eat(os.Args[1:]))
	return 1
}

// ready is an eater's message when it has taken its amount.
const ready = "ready"

// eat returns only with an error.
func eat(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments", len(args))
	}
	amount, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return err
	}
	switch actions.Kind(args[0]) {
	case actions.CPUThrottle:
		return eatCPU(amount)
	case actions.MemoryPressure:
		return eatMemory(int64(amount))
	}
	return fmt.Errorf("unsupported kind of fault %q", args[0])
}

// eaterPeriod is the period of taking a share of a CPU: short beside the timeouts of any
// connection, long beside the tick of a kernel.
const eaterPeriod = 10 * time.Millisecond

// eatCPU takes a share of each CPU that it may run on, forever. Its threads are real-time ones of
// the lowest priority (SCHED_FIFO, CAP_SYS_NICE): every ordinary process and kernel thread waits
// for them, ksoftirqd among them, while interrupts and the kernel's work at their end come first,
// as in a container whose cpu.max is used up.
func eatCPU(share float64) error {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("ask for the CPUs: %w", err)
	}
	// One more than the eating threads: one thread must notice the agent's end.
	runtime.GOMAXPROCS(cpus.Count() + 1)
	started := make(chan error)
	lowest := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	for cpu, left := 0, cpus.Count(); left > 0; cpu++ {
		if !cpus.IsSet(cpu) {
			continue
		}
		left--
		go func() {
			runtime.LockOSThread()
			var own unix.CPUSet
			own.Set(cpu)
			err := unix.SchedSetaffinity(0, &own)
			if err == nil {
				err = unix.SchedSetAttr(0, lowest, 0)
			}
			started <- err
			if err == nil {
				burn(share)
			}
		}()
	}
	for range cpus.Count() {
		if err := <-started; err != nil {
			return fmt.Errorf("become a real-time process: %w", err)
		}
	}
	fmt.Println(ready)
	select {}
}

// burn keeps the calling thread's CPU busy for a share of each period.
func burn(share float64) {
	busy := time.Duration(share * float64(eaterPeriod))
	for next := time.Now(); ; {
		for time.Since(next) < busy {
		}
		next = next.Add(eaterPeriod)
		// After a stall, as of the host, burn does not repeat missed periods.
		if now := time.Now(); next.Before(now) {
			next = now
		}
		rest := unix.NsecToTimespec(int64(time.Until(next)))
		_ = unix.Nanosleep(&rest, nil)
	}
}

// eater is the agent's handle of a child that eats.
type eater struct {
	args []string
	life context.Context // until stop
	end  context.CancelFunc

	mu    sync.Mutex
	child *eaterChild // the present or the last one; nil before the first
	kills int         // number of children that other processes or the kernel killed
}

type eaterChild struct {
	process *os.Process
	life    io.Closer     // its standard input
	ended   chan struct{} // closed after its end
}

func newEater(kind actions.Kind, amount float64) *eater {
	e := &eater{args: []string{string(kind), strconv.FormatFloat(amount, 'f', -1, 64)}}
	e.life, e.end = context.WithCancel(context.Background())
	return e
}

var errEaterStopped = errors.New("eater stopped")

// start starts the child and returns when it has taken its amount.
func (e *eater) start(ctx context.Context) error {
	child, words, err := e.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", EaterRole, err)
	}
	select {
	case word, ok := <-words:
		switch {
		case word == ready:
			return nil
		case !ok:
			err = errors.New("it was killed before it had taken its amount")
		default:
			err = errors.New(word)
		}
	case <-e.life.Done():
		err = errEaterStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	child.kill()
	return fmt.Errorf("%s %s: %w", EaterRole, e.args[0], err)
}

// spawn makes a child the present one. Its first line comes through the channel, which closes at
// its end.
func (e *eater) spawn() (*eaterChild, <-chan string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life.Err() != nil {
		return nil, nil, errEaterStopped
	}
	cmd := exec.Command("/proc/self/exe", e.args...)
	cmd.Args[0] = EaterRole
	cmd.Stderr = os.Stderr
	life, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, errors.Join(err, life.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	child := &eaterChild{process: cmd.Process, life: life, ended: make(chan struct{})}
	words := make(chan string, 1)
	go func() {
		if line := bufio.NewScanner(said); line.Scan() {
			words <- line.Text()
		}
		_, _ = io.Copy(io.Discard, said) // until it ends
		close(words)
		_ = cmd.Wait() // PID 1 may have reaped it already
		close(child.ended)
	}()
	e.child = child
	return child, words, nil
}

// kill ends a child and waits for its end.
func (c *eaterChild) kill() {
	_ = c.process.Kill()
	_ = c.life.Close()
	<-c.ended
}

// keep starts the child again after each kill from outside, until stop.
func (e *eater) keep(pause time.Duration) {
	for {
		select {
		case <-e.present().ended:
		case <-e.life.Done():
			return
		}
		select {
		case <-time.After(pause):
		case <-e.life.Done():
			return
		}
		e.mu.Lock()
		e.kills++
		e.mu.Unlock()
		ctx, cancel := context.WithTimeout(e.life, restartLimit)
		_ = e.start(ctx) // killed again: the next turn retries
		cancel()
	}
}

// restartLimit bounds the start of a child that was killed.
const restartLimit = 15 * time.Second

// stop ends the child for good and returns the number of kills from outside.
func (e *eater) stop() (kills int) {
	e.mu.Lock()
	e.end()
	child, kills := e.child, e.kills
	e.mu.Unlock()
	if child != nil {
		child.kill()
	}
	return kills
}

func (e *eater) present() *eaterChild {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.child
}

// pid returns the child's process id, 0 without a child.
func (e *eater) pid() int {
	child := e.present()
	if child == nil {
		return 0
	}
	select {
	case <-child.ended:
		return 0
	default:
		return child.process.Pid
	}
}
