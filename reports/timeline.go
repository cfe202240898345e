package reports

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/results"
)

// TimeLine writes what a trial of each scenario will do: as text, or as JSON.
func TimeLine(w io.Writer, format string, lines []results.TimeLine, o Options) error {
	switch format {
	case "json":
		return writeJSON(w, lines)
	case "", "table":
	default:
		return fmt.Errorf("a time line is printed as table or json, not as %s", format)
	}
	width := max(minWidth, o.Width)
	if o.Width == 0 {
		width = defaultWidth
	}
	var b bytes.Buffer
	for _, line := range lines {
		b.WriteString(emphasis(printable(line.Scenario), o.Color))
		b.WriteByte('\n')
		if len(line.Steady) > 0 {
			paragraph(&b, "  normal: ", strings.Join(line.Steady, "; "), width)
		}
		indent := 0
		for _, p := range line.Points {
			indent = max(indent, runewidth.StringWidth(p.When))
		}
		indent = min(indent, width/2)
		for _, p := range line.Points {
			mark := "  "
			if p.Action {
				mark = "* "
			}
			paragraph(&b, "  "+runewidth.FillLeft(printable(p.When), indent)+"  "+mark, p.What, width)
		}
		b.WriteByte('\n')
	}
	b.WriteString("Times count from the start of the load; * is an action. Nothing was booted.\n")
	_, err := w.Write(b.Bytes())
	return err
}
