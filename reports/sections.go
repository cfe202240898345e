package reports

import (
	"bytes"
	_ "embed"
	"html/template"
)

//go:embed page/sections.html
var sectionsHTML string

var sectionsPage = template.Must(template.New("sections").Parse(chartHTML + sectionsHTML))

// section is a part of a document: sentences, a chart, then a table.
type section struct {
	Title     string
	Sentences []string
	Chart     *chart
	Heads     [][2]string
	Left      int // columns that are aligned left
	Rows      [][]string
	Notes     []string // below the table
}

// writeSections writes a document as one page that needs no network and no other file.
func writeSections(b *bytes.Buffer, title, lead string, list []section) error {
	return sectionsPage.Execute(b, struct {
		Title, Lead string
		Styles      template.CSS
		Sections    []section
	}{title, lead, template.CSS(pageCSS), list})
}
