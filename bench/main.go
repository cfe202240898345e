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
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
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

// options are those of the command line.
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
	flags.Float64Var(&o.idle, "idle", 0, "percent of the machine that must be idle before each measurement, waiting for up to 10 minutes")
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
	return measure(ctx, o, stdout, stderr)
}
