package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/reports"
	livepage "github.com/ctload/ctload/reports/live"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/vm/sandbox"
)

// watchFlags say who watches a run or a search while it goes on.
type watchFlags struct {
	events string // file; - is standard output
	live   string // address of the live page
}

// standardOutput is the name of standard output where a flag takes a file.
const standardOutput = "-"

// eventsName names the descriptor on which the command in the sandbox tells the events of the run.
const eventsName = "events"

// slowReader bounds the time for which a reader that does not read delays the end of the program.
const slowReader = 2 * time.Second

func (f *watchFlags) register(flags *pflag.FlagSet) {
	flags.Var(textFlag(&f.events, "file", "events.jsonl"), "events",
		"write what happens as lines of JSON while it happens; - is stdout, and the table then "+
			"goes to stderr")
	address := &flagValue{kind: "address", free: true}
	address.read = func(text string) (err error) {
		f.live, err = livepage.Address(text)
		return err
	}
	flags.Var(address, "live", "serve the page while trials go on, to this host alone: --live or "+
		"--live=127.0.0.1:8080")
	flags.Lookup("live").NoOptDefVal = "127.0.0.1:0"
}

// check refuses what the flags together cannot do.
func (f *watchFlags) check(cmd *cobra.Command) error {
	if f.events == standardOutput && cmd.Flags().Changed("format") {
		return errors.New("--events - and --format: stdout takes one of them; " +
			"--events FILE writes the events into a file")
	}
	return nil
}

// output returns where the report goes.
func (f *watchFlags) output(cmd *cobra.Command) io.Writer {
	if f.events == standardOutput {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

// watchers receive the events of a run or a search, outside of the sandbox.
type watchers struct {
	events.Sinks
	lines  *events.Writer
	file   *os.File // of the lines; nil: standard output
	server *livepage.Server
	render livepage.Renderer // of the page
}

// open opens what the flags ask for, before anything is measured.
func (f *watchFlags) open(cmd *cobra.Command) (w *watchers, err error) {
	w = &watchers{}
	defer func() {
		if err != nil {
			err = host(errors.Join(err, w.close(nil)))
		}
	}()
	switch f.events {
	case "":
	case standardOutput:
		w.lines = events.NewWriter(os.Stdout)
	default:
		// A pipe that no program reads is an error, and does not make the run wait.
		const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | syscall.O_NONBLOCK
		if w.file, err = os.OpenFile(f.events, flags, 0o644); err != nil {
			return w, fmt.Errorf("--events: %w", err)
		}
		w.lines = events.NewWriter(w.file)
	}
	if w.lines != nil {
		w.Sinks = append(w.Sinks, w.lines)
	}
	if f.live != "" {
		if w.server, err = livepage.Listen(f.live); err != nil {
			return w, err
		}
		w.Sinks = append(w.Sinks, w.server)
		fmt.Fprintf(cmd.ErrOrStderr(), "live page: %s\nfor Prometheus: %smetrics\n",
			w.server.URL(), w.server.URL())
	}
	return w, nil
}

// pipe returns where the process that measures tells the events, or nil where nothing watches, and
// a function that waits until all of them have arrived. The pipe keeps slow watchers away from the
// measurement: see [events.Writer].
func (w *watchers) pipe() (into *os.File, wait func() error, err error) {
	if len(w.Sinks) == 0 {
		return nil, func() error { return nil }, nil
	}
	from, into, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making the pipe of the events: %w", err)
	}
	arrived := make(chan error, 1)
	go func() { arrived <- events.Read(from, w) }()
	return into, func() error {
		return errors.Join(into.Close(), <-arrived, from.Close())
	}, nil
}

// show gives the live page what it shows.
func (w *watchers) show(render livepage.Renderer) {
	w.render = render
	if w.server != nil {
		w.server.Show(render)
	}
}

// runPage returns what renders the page of the run in a folder.
func runPage(folder *results.Folder) livepage.Renderer {
	return func(live string) ([]byte, error) {
		run, err := folder.Load()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = reports.Render(&b, "html", run, reports.Options{Series: folder, Live: live})
		return b.Bytes(), err
	}
}

// endOf tells what a run measured; nothing of a nil run.
func endOf(run *results.Run, folder *results.Folder) (end events.End) {
	if run != nil {
		end.Interrupted, end.Folder = run.Interrupted, folder.Path()
		end.Failures = append(results.Unmeasured(run), results.Failures(run)...)
	}
	return end
}

// end tells the watchers how the command ended: with an error, or with what end tells of the run.
func (w *watchers) end(cmd *cobra.Command, end events.End, failed error) {
	end.Status = exitStatus(cmd.Context(), failed)
	var final []byte
	if w.server != nil && end.Folder != "" {
		page, err := w.render("")
		final, failed = page, errors.Join(failed, err)
	}
	if failed != nil && len(end.Failures) == 0 {
		end.Error = failed.Error()
	}
	w.Take(events.Event{Kind: events.RunEnd, Time: time.Now(), End: &end})
	if err := w.close(final); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", err)
	}
}

// close ends what was opened. final is the page of the run that has ended.
func (w *watchers) close(final []byte) error {
	var errs []error
	if w.lines != nil {
		errs = append(errs, w.lines.Close(slowReader))
	}
	if w.file != nil {
		errs = append(errs, w.file.Close())
	}
	if w.server != nil {
		errs = append(errs, w.server.End(final))
	}
	return errors.Join(errs...)
}

// toldTo returns a sink that writes into a pipe of [watchers.pipe], and a function that ends it. A
// nil pipe gets nothing.
func toldTo(pipe *os.File) (sinks events.Sinks, end func() error) {
	if pipe == nil {
		return nil, func() error { return nil }
	}
	w := events.NewWriter(pipe)
	return events.Sinks{w}, func() error { return w.Close(slowReader) }
}

// insidePipe returns the pipe that the command outside of the sandbox has handed over, or nil.
func insidePipe() *os.File { return sandbox.File(eventsName) }
