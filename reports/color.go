package reports

import (
	"strings"

	"github.com/ctload/ctload/results"
)

// ANSI colours of the verdicts: green is well, red is loss at the limit, yellow is anything else
// that the kernel had to do, magenta is an untrustworthy measurement.
var colors = map[results.Verdict]string{
	results.Clean:        "\x1b[32m",
	results.TableFull:    "\x1b[31m",
	results.ChainTooLong: "\x1b[31m",
	results.Evicting:     "\x1b[33m",
	results.Clash:        "\x1b[33m",
	results.NotConntrack: "\x1b[33m",
	results.Invalid:      "\x1b[35m",
}

const (
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// paint colours each line of a verdict's cell.
func paint(cell string, r row, color bool) string {
	if !color || r.trials == 0 {
		return cell
	}
	v, _ := r.verdict()
	lines := strings.Split(cell, "\n")
	for i, l := range lines {
		lines[i] = colors[v] + l + reset
	}
	return strings.Join(lines, "\n")
}

func emphasis(s string, color bool) string {
	if !color {
		return s
	}
	return bold + s + reset
}
