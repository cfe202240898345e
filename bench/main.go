// Command bench measures the generators and the usual tools on one machine, in one run, and prints
// the ratios that the project promises beside the measured ones.
//
//	go run ./bench [-rounds 5] [-rows http,tcp,...] [-idle 90] [-json FILE]
//
// Absolute figures drift with the machine and its other work, so only ratios count: the tools take
// turns, round by round, and each ratio is one of medians. With -idle a measurement waits until the
// machine is mostly idle, and a disturbed one is repeated. Everything happens in namespaces that
// the program makes and that vanish with it; as root or as an ordinary user. It needs ab, wrk,
// h2load, hping3, trafgen, nginx, ip, nft and taskset; a row whose peer is missing says so.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the options of the command line.
type options struct {
	rounds int
	rows   []string
	json   string
	idle   float64
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var rows string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds, each of which measures every tool once")
	flags.StringVar(&rows, "rows", "", "comma-separated rows to measure; all when empty")
	flags.Float64Var(&o.idle, "idle", 0, "percent of the machine that must be idle before each "+
		"measurement, waiting for up to 10 minutes")
	flags.StringVar(&o.json, "json", "", "file to write every single measurement to")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || flags.NArg() > 0 {
		return o, errors.New("want at least one round and no arguments")
	}
	if rows != "" {
		o.rows = strings.Split(rows, ",")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	// The program starts itself again: inside namespaces, and there as generator, responder and
	// peer.
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			return role(ctx, args[1:], stdout)
		}
	}
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if os.Getenv(insideVariable) == "" {
		return enter(ctx, args, stdout, stderr)
	}
	return measureRows(ctx, o, stdout, stderr)
}

// insideVariable tells the program that it is in namespaces of its own.
const insideVariable = "CTLOAD_BENCH_INSIDE"

// enter runs the program again in user, network, mount and PID namespaces of its own. There it is
// root, has no way out of them, and its end ends everything that it has started.
func enter(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS |
			syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	runtime.LockOSThread() // Pdeathsig follows the thread
	defer runtime.UnlockOSThread()
	return cmd.Run()
}

// lab holds the namespaces of the bench: a client, a router and a far end, in a row.
//
//	client 10.80.0.1 -- 10.80.0.2 router 10.81.0.1 -- 10.81.0.2 far
//
// Routes lead to the client for 10.90.0.0/16 and to the far end for 10.91.0.0/16; no host has these
// addresses.
type lab struct {
	folder string
	spent  cpu // by the tool that is measured
}

const (
	clientAddress = "10.80.0.1"
	routerAddress = "10.80.0.2"
	farAddress    = "10.81.0.2"
	crowd         = "10.90.0.0/16"
	farCrowd      = "10.91.0.0/16"
)

const labScript = `
mount -t proc none /proc
mount -t tmpfs none /run
mkdir -p /run/netns /run/bench
for n in client router far; do ip netns add $n; ip -n $n link set lo up; done
ip -n client link add dev link type veth peer name near netns router
ip -n router link add dev far type veth peer name link netns far
ip -n client addr add 10.80.0.1/24 dev link
ip -n router addr add 10.80.0.2/24 dev near
ip -n router addr add 10.81.0.1/24 dev far
ip -n far addr add 10.81.0.2/24 dev link
ip -n client link set dev link up; ip -n router link set near up
ip -n router link set far up; ip -n far link set dev link up
ip -n client route add 10.0.0.0/8 via 10.80.0.2
ip -n far route add 10.0.0.0/8 via 10.81.0.1
ip -n router route add 10.90.0.0/16 via 10.80.0.1
ip -n router route add 10.91.0.0/16 via 10.81.0.2
for n in client router far; do
  ip netns exec $n sh -c 'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range
    echo 65535 > /proc/sys/net/core/somaxconn; echo 65535 > /proc/sys/net/ipv4/tcp_max_syn_backlog
    echo 0 > /proc/sys/net/ipv4/tcp_syncookies; echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse
    echo 0 > /proc/sys/net/ipv4/icmp_ratelimit'
done
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
`

func newLab(ctx context.Context) (*lab, error) {
	l := &lab{folder: "/run/bench"} // in the file system that vanishes with the mount namespace
	return l, l.script(ctx, labScript)
}

// script runs shell commands outside the three namespaces.
func (l *lab) script(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", text)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setting up: %w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// in returns a command in a namespace, on these CPUs ("": all), which ends with the bench.
func (l *lab) in(ctx context.Context, namespace, cpus string, args ...string) *exec.Cmd {
	all := []string{"netns", "exec", namespace}
	if cpus != "" {
		all = append(all, "taskset", "-c", cpus)
	}
	cmd := exec.CommandContext(ctx, "ip", append(all, args...)...)
	// A group of its own, since some peers leave the work to children and do not end them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = l.folder
	return cmd
}

// nft replaces the rules of a namespace.
func (l *lab) nft(ctx context.Context, namespace, rules string) error {
	cmd := l.in(ctx, namespace, "", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + rules)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("loading rules into %s: %w: %s", namespace, err, bytes.TrimSpace(output))
	}
	return nil
}

// Rules of the rows.
const (
	dropAtIngress = `table netdev bench {
	chain c { type filter hook ingress device near priority 0; ip protocol { tcp, udp } drop; }
}
`
	trackForward = `table ip bench {
	chain c { type filter hook forward priority 0; ct state new accept; }
}
`
	trackInput = `table ip bench {
	chain c { type filter hook input priority 0; ct state new accept; }
}
`
	dropAtFar = `table netdev bench {
	chain c { type filter hook ingress device link priority 0; ip protocol tcp drop; }
}
`
)
