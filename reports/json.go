package reports

import (
	"encoding/json"
	"io"
)

// writeJSON writes a value as readable JSON: indented, with <, > and & unescaped.
func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
