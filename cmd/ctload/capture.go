package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/capture"
	hostcapture "github.com/ctload/ctload/capture/host"
	"github.com/ctload/ctload/results"
)

func captureCommand() *cobra.Command {
	var o hostcapture.Options
	var out string
	var from []string
	var show, prefixes, comments bool
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "keep what is known of this host's table in a file, without its addresses",
		Long: `Reads this host's connection tracking and keeps it in a file for ctload explain:
sizes, timeouts, counters at both ends of the watch, the number of entries once a second,
"table full" lines, rules, and the first entries of two listings. Entries lie in the order of a
keyed hash, so that these are a fair sample.

It only reads: it loads no module, sets nothing and listens to no events. No address leaves:
addresses become pseudonyms, the same in entries and rules, and comments in rules are left out
unless --comments keeps them.
Give the file a look with --show.

  ctload capture                           a minute's watch into table-DATE.ctcap
  ctload capture --watch 10s --show        print what the file would hold
  ctload capture --from table.txt --from stats.txt -o old.ctcap`,
		Args: takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show && out != "" {
				return errors.New("--show prints instead of writing a file: leave --output out")
			}
			if len(from) > 0 && cmd.Flags().Changed("watch") {
				return errors.New("--from reads saved outputs: there is nothing to watch")
			}
			if out == "" {
				out = "table-" + time.Now().Format("20060102-150405") + capture.Ending
			}
			c, err := take(cmd, o, from)
			if err != nil {
				return err
			}
			pseudonyms, err := capture.NewPseudonyms(prefixes)
			if err != nil {
				return host(err)
			}
			pseudonyms.Comments = comments
			pseudonyms.Hide(c)
			for _, problem := range c.Problems {
				fmt.Fprintf(cmd.ErrOrStderr(), "not read: %s\n", problem)
			}
			if show {
				return results.WriteJSON(cmd.OutOrStdout(), c)
			}
			return host(writeCapture(cmd, out, c))
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "schema", Short: "print the JSON schema of a capture, whose file is JSON and gzip",
		Args: takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(capture.Schema)
			return err
		},
	})
	flags := cmd.Flags()
	flags.VarP(textFlag(&out, "file", "web1.ctcap"), "output", "o", "write to this file")
	flags.Var(durationFlag(&o.Watch).withDefault("60s"), "watch",
		"how long to read the number of entries, once a second")
	flags.Var(countFlag(&o.Entries, 0, capture.MostEntries).
		withDefault(strconv.Itoa(hostcapture.DefaultEntries)), "entries",
		"entries to read from each of the two listings; 0: none")
	flags.BoolVar(&o.WithoutRoot, "without-root", false,
		"read only what every user may read: no entries, no rules, no log")
	flags.BoolVar(&prefixes, "prefixes", false,
		"give addresses of one network pseudonyms of one network")
	flags.BoolVar(&comments, "comments", false,
		"keep comments and log prefixes of rules, without their addresses")
	flags.BoolVar(&show, "show", false, "print what the file would hold, as JSON")
	flags.Var(namesFlag(&from, "table.txt"), "from",
		"read outputs that were saved instead of this host; may be repeated")
	return cmd
}

// take captures this host, or reads the saved outputs of another.
func take(cmd *cobra.Command, o hostcapture.Options, from []string) (*capture.Capture, error) {
	if len(from) > 0 {
		c, err := loadCapture(cmd, from)
		return c, err
	}
	if terminal(cmd.ErrOrStderr()) {
		o.Progress = func(left time.Duration) {
			fmt.Fprintf(cmd.ErrOrStderr(), "\r%3.0f s left ", left.Seconds())
		}
		defer fmt.Fprint(cmd.ErrOrStderr(), "\r            \r")
	}
	c, err := hostcapture.Take(cmd.Context(), o)
	return c, host(err)
}

// writeCapture writes a new file that only its owner may read.
func writeCapture(cmd *cobra.Command, path string, c *capture.Capture) error {
	var b bytes.Buffer
	if err := capture.Write(&b, c); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists: name another file with --output", path)
		}
		return err
	}
	_, err = file.Write(b.Bytes())
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes, %d entries. Next: %s explain %s\n",
		path, b.Len(), len(c.Table.Entries), os.Args[0], path)
	return nil
}
