package main

import (
	"os"
	"strconv"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ctload/ctload/reports"
)

// widthFlags say how wide the output may be.
type widthFlags struct {
	columns int
	wide    bool
}

// The accepted widths.
const (
	leastColumns = 20
	mostColumns  = 10000
)

func (f *widthFlags) register(flags *pflag.FlagSet) {
	flags.Var(countFlag(&f.columns, leastColumns, mostColumns), "columns", "width of what is printed (default: the terminal's, else COLUMNS, else 80)")
}

// options returns the width of stdout's terminal, if it is one.
func (f *widthFlags) options() reports.Options {
	options := reports.Options{Wide: f.wide, Width: f.columns}
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= leastColumns && n <= mostColumns && options.Width == 0 {
			options.Width = n
		}
		return options
	}
	options.Color = os.Getenv("NO_COLOR") == ""
	if width, _, err := term.GetSize(fd); err == nil && options.Width == 0 {
		options.Width = width
	}
	return options
}
