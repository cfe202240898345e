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

// Fields writes what thresholds may name: as text, as JSON, or as the page docs/fields.md.
func Fields(w io.Writer, format string, fields []results.Field, o Options) error {
	all := textOrJSON(fieldTable)
	all["markdown"] = fieldPage
	return all.render(w, "the fields", format, fields, o)
}

func fieldTable(b *bytes.Buffer, fields []results.Field, o Options) error {
	width := o.width()
	indent := min(widest(fields, func(f results.Field) string { return f.Name }), width/2)
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
const pageHead = "# The fields of a trial\n\n" +
	"Thresholds (`--threshold`, and `thresholds` in an experiment) name these fields, and\n" +
	"run.json has them for each trial. A field of a probe, or of anything else that a trial may\n" +
	"lack, is nil there, and a threshold on it does not hold. A time that did not come is\n" +
	"`never`, which is later than any other. [ci.md](ci.md) shows thresholds.\n\n" +
	"NAME is that of an entry or a probe of the workload, such as in\n" +
	"`entries.users.failed`. A name with other characters than letters, digits and _ is quoted:\n" +
	"`probes[\"ssh-login\"].loss`. load is the sum of the entries that are not hostile, and\n" +
	"missing where they count unlike units.\n\n" +
	"`ctload report --fields` prints this page, and `ctload report --schema` the JSON schema of\n" +
	"run.json. The page is made from the program's own types\n" +
	"(`go test ./reports -run FieldsPage -update`).\n"

// tableHead begins the table of a group.
const tableHead = "\n## %s\n\n| field | kind | unit | meaning |\n|---|---|---|---|\n"

var cellEscapes = strings.NewReplacer("|", `\|`, "<", "&lt;")

// documentHead begins the part of docs/fields.md about the rest of run.json.
const documentHead = "\n# The rest of run.json\n\n" +
	"run.json has these fields besides: those of the run, and those of the elements of lists.\n" +
	"`[]` stands for each element, and NAME for the name of an entry or a probe.\n" +
	"`conclusion` is derived from the rest; ctload derives it again when it reads a run.\n"

func fieldPage(b *bytes.Buffer, fields []results.Field, _ Options) error {
	b.WriteString(pageHead)
	fieldGroups(b, inGroups(fields), groupOf)
	rest, err := results.DocumentFields()
	if err != nil {
		return err
	}
	b.WriteString(documentHead)
	var holders []string
	for _, f := range rest {
		holders = addNew(holders, holderOf(f))
	}
	place := func(f results.Field) int { return slices.Index(holders, holderOf(f)) }
	slices.SortStableFunc(rest, func(a, b results.Field) int {
		return cmp.Compare(place(a), place(b))
	})
	fieldGroups(b, rest, holderOf)
	return nil
}

// fieldGroups writes a table for each group of fields.
func fieldGroups(b *bytes.Buffer, fields []results.Field, groupOf func(results.Field) string) {
	group := ""
	for _, f := range fields {
		if of := groupOf(f); of != group {
			group = of
			fmt.Fprintf(b, tableHead, group)
		}
		meaning := cellEscapes.Replace(f.Meaning)
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, f.Unit, meaning)
	}
}

// holderOf returns the path of the object or the list that a field is in.
func holderOf(f results.Field) string {
	if at := strings.LastIndexByte(f.Name, '.'); at >= 0 {
		return f.Name[:at]
	}
	return "run"
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
