package reports

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
)

// fieldFormats are the formats of [Fields].
var fieldFormats = formats[[]results.Field]{
	"table": fieldTable, "json": asJSON[[]results.Field], "markdown": fieldPage,
}

// Fields writes what thresholds may name: as text, as JSON, or as the page docs/fields.md.
func Fields(w io.Writer, format string, fields []results.Field, o Options) error {
	return fieldFormats.render(w, "the fields", format, fields, o)
}

func fieldTable(b *bytes.Buffer, fields []results.Field, o Options) error {
	width, indent := o.width(), 0
	for _, f := range fields {
		indent = max(indent, len(f.Name))
	}
	indent = min(indent, width/2)
	for _, f := range fields {
		about := f.Meaning
		if f.Unit != "" {
			about += " [" + f.Unit + "]"
		}
		paragraph(b, fmt.Sprintf("%-*s  ", indent, f.Name), about, width)
	}
	return nil
}

// pageHead begins docs/fields.md.
const pageHead = `# The fields of a trial

Thresholds (` + "`--threshold`, and `thresholds` in an experiment" + `) name these fields, and run.json
has them for each trial. A field of a probe, or of anything else that a trial may lack, is nil
there, and a threshold on it does not hold. A time that did not come is ` + "`never`" + `, which is later
than any other. [ci.md](ci.md) shows thresholds.

` + "`ctload report --fields`" + ` prints this page, and ` + "`ctload report --schema`" + ` the JSON schema of
run.json. The page is made from the program's own types
(` + "`go test ./reports -run FieldsPage -update`" + `).
`

func fieldPage(b *bytes.Buffer, fields []results.Field, _ Options) error {
	b.WriteString(pageHead)
	group := ""
	for _, f := range inGroups(fields) {
		if of := groupOf(f); of != group {
			group = of
			fmt.Fprintf(b, "\n## %s\n\n| field | kind | unit | meaning |\n|---|---|---|---|\n", group)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, f.Unit, strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(f.Meaning))
	}
	return nil
}

// groupOf returns the object that a field is in.
func groupOf(f results.Field) string {
	if of, _, below := strings.Cut(f.Name, "."); below {
		return of
	}
	return "trial"
}

// inGroups puts the fields of the trial itself before those of its objects.
func inGroups(fields []results.Field) []results.Field {
	return slices.SortedStableFunc(slices.Values(fields), func(a, b results.Field) int {
		return cmp.Compare(min(1, strings.Count(a.Name, ".")), min(1, strings.Count(b.Name, ".")))
	})
}
