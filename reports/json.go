package reports

import (
	"encoding/json"
	"io"
)

// writeJSON writes a value as people read JSON too: indented, and with <, > and & as they are.
func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
