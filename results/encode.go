package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Encode writes run.json: the run as indented JSON with a newline at its end.
func Encode(w io.Writer, run *Run) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(run); err != nil {
		return fmt.Errorf("writing the run as JSON: %w", err)
	}
	return nil
}

// Decode reads run.json as this or an older ctload wrote it. Unknown fields are left out: a newer
// build of the same schema may have added some. A newer schema is an error.
func Decode(r io.Reader) (*Run, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the run: %w", err)
	}
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, jsonError(data, err)
	}
	if version.Schema != nil && (*version.Schema < 1 || *version.Schema > SchemaVersion) {
		return nil, fmt.Errorf("the run has schema %d, and this ctload reads 1 to %d", *version.Schema, SchemaVersion)
	}
	run := &Run{}
	if err := json.Unmarshal(data, run); err != nil {
		return nil, jsonError(data, err)
	}
	// Documents from before the first release carry no version and differ in nothing else.
	run.Schema = SchemaVersion
	return run, nil
}

// jsonError says where in the document the error is.
func jsonError(data []byte, err error) error {
	offset := int64(-1)
	switch e := err.(type) {
	case *json.SyntaxError:
		offset = e.Offset
	case *json.UnmarshalTypeError:
		offset = e.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return fmt.Errorf("reading the run: %w", err)
	}
	before := data[:offset]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("reading the run: line %d, column %d: %w", line, column, err)
}
