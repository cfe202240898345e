package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/vm/sandbox"
)

// catchSignals makes SIGINT, SIGTERM and SIGHUP end the command's context, until stop is called; a
// second signal ends the program at once. In a command that does not call it, every signal does.
func catchSignals(cmd *cobra.Command) (stop func()) {
	signals := sandbox.EndingSignals()
	if len(signals) == 0 {
		return func() {}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), signals...)
	context.AfterFunc(ctx, stop)
	cmd.SetContext(ctx)
	return func() {
		if ctx.Err() == nil { // the context stays as it is, for the exit status
			signal.Reset(signals...)
		}
	}
}

// keepPipes makes a write into a pipe that nothing reads an error. By default it ends the program:
// `ctload run 2>&1 | head` would end the measurement.
func keepPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
