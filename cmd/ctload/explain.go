package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/capture/saved"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/internal/textfile"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/scenarios"
)

func explainCommand() *cobra.Command {
	var format string
	var settings []string
	var width widthFlags
	cmd := &cobra.Command{
		Use:   "explain FILE...",
		Short: "say what is in a host's table, from the outputs that were saved from it",
		Long: `Reads what was saved on a host whose table is in trouble, one file or many of one
moment, and says what is in the table, what each change would leave of it, and what cannot be
known. Recognised are listings of conntrack -L and /proc/net/nf_conntrack, conntrack -S and -C,
sysctl, dmesg and syslog, iptables-save, nft list ruleset, nstat, uname -r and numbers from
/proc/sys, with their prompts and commands, of any kernel from 2.6 on; - is stdin.

  conntrack -L >table.txt 2>&1; conntrack -S >stats.txt; sysctl -a >sysctl.txt; dmesg >log.txt
  ctload explain table.txt stats.txt sysctl.txt log.txt
  ctload explain web1.ctcap                what ctload capture kept
  ctload explain *.txt --set tcp_timeout_time_wait=30`,
		Args: needs(1, mostFiles, "files with saved outputs, or - for stdin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := whatIf(settings)
			if err != nil {
				return fmt.Errorf("--set: %w", err)
			}
			c, err := loadCapture(cmd, args)
			if err != nil {
				return err
			}
			x := explain.Explain(c, options)
			return reports.Explanation(cmd.OutOrStdout(), format, x, width.options())
		},
	}
	flags := cmd.Flags()
	width.register(flags)
	flags.Var(namesFlag(&settings, "tcp_timeout_time_wait=30"), "set",
		"also say what a setting would leave, as tcp_timeout_time_wait=30 or max=1048576")
	addFormat(flags, &format, "table", reports.ExplanationFormats()...)
	return cmd
}

// loadCapture reads one capture, or saved outputs of one moment. It tells how many lines of these
// were not understood.
func loadCapture(cmd *cobra.Command, names []string) (*capture.Capture, error) {
	var files []saved.File
	for _, name := range names {
		c, text, err := readSaved(cmd, name)
		switch {
		case err != nil:
			return nil, err
		case c != nil && len(names) > 1:
			return nil, fmt.Errorf("%s is a capture: it stands alone", name)
		case c != nil:
			return c, nil
		case len(text) == 0 && isPipe(name):
			return nil, fmt.Errorf("%s is a pipe, and nothing writes to it", name)
		}
		files = append(files, saved.File{Name: name, Text: text})
	}
	c, report, err := saved.Read(files...)
	if err != nil {
		return nil, err
	}
	for _, part := range report.Unread {
		fmt.Fprintf(cmd.ErrOrStderr(), "ctload: %s: %d of its lines not understood, from line %d "+
			"on\n", part.File, part.Lines, part.First)
	}
	return c, nil
}

// isPipe reports whether a file that the user names is a pipe.
func isPipe(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Type() == fs.ModeNamedPipe
}

// mostFiles bounds the number of saved files: more are those of several moments.
const mostFiles = 100

// largestSaved bounds a saved text: a listing of four million entries.
const largestSaved = 1 << 30

// readSaved reads a capture, or one saved text.
func readSaved(cmd *cobra.Command, name string) (*capture.Capture, []byte, error) {
	from := cmd.InOrStdin()
	if name != scenarios.Stdin {
		file, err := textfile.Open(name, largestSaved)
		if err != nil {
			return nil, nil, err
		}
		defer file.Close()
		from = file
	}
	buffered := bufio.NewReader(from)
	begin, _ := buffered.Peek(2) // a failure comes again
	var c *capture.Capture
	var text []byte
	var err error
	if capture.IsCapture(begin) {
		c, err = capture.Read(buffered)
	} else {
		text, err = textfile.ReadAll(buffered, largestSaved)
	}
	if _, named := errors.AsType[*fs.PathError](err); err != nil && !named {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return c, text, err
}

// whatIf reads the settings to try.
func whatIf(texts []string) (o explain.Options, err error) {
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return o, fmt.Errorf("%q has no value, as in tcp_timeout_time_wait=30", text)
		}
		name := strings.TrimPrefix(strings.TrimSpace(key), kernels.Prefix)
		full, _ := kernels.Key(name)
		if full == name {
			full = kernels.Prefix + name
		}
		if !explain.CanSet(full) {
			return o, fmt.Errorf("%q is no size or timeout of the table%s", key,
				spelling.Hint(strings.TrimPrefix(full, kernels.Prefix), kernels.Settings))
		}
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
		if err != nil || n <= 0 {
			return o, fmt.Errorf("%q: %q is no positive number", text, value)
		}
		o.Set = append(o.Set, kernels.Setting{Key: full, Value: strconv.FormatInt(n, 10)})
	}
	return o, nil
}
