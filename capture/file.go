package capture

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// Ending ends the names of files with a capture: JSON, compressed by gzip.
const Ending = ".ctcap"

const (
	// mostBytes bounds the size of a capture, uncompressed: twice that of the most entries.
	mostBytes = 64 << 20
	// MostEntries is the largest number of entries that a capture from a host holds.
	MostEntries = 100_000
)

// Write writes a capture. The entries are written in pieces: no text of all of them is in memory.
func Write(w io.Writer, c *Capture) error {
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	return errors.Join(write(compressed, c), compressed.Close())
}

// IsCapture reports whether a file begins as one that Write has written.
func IsCapture(text []byte) bool { return len(text) > 1 && text[0] == 0x1f && text[1] == 0x8b }

// Schema is the JSON schema of a capture, uncompressed.
//
//go:embed capture.schema.json
var Schema []byte

// Read reads a capture. The error says what is wrong with a file that is torn or of a newer
// version.
func Read(r io.Reader) (*Capture, error) {
	compressed, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("no capture: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(compressed, mostBytes+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the capture is torn: its end is missing")
	case err != nil:
		return nil, fmt.Errorf("the capture is damaged: %w", err)
	case len(text) > mostBytes:
		return nil, fmt.Errorf("the capture has more than %d bytes", mostBytes)
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("the capture is damaged: %w", err)
	}
	switch {
	case version.Schema > SchemaVersion: // its other fields may have other types
		return nil, fmt.Errorf("the capture is of version %d, and this ctload reads version %d: "+
			"take a newer ctload", version.Schema, SchemaVersion)
	case version.Schema < 1:
		return nil, errors.New("no capture: it has no version")
	}
	c := new(Capture)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("the capture is damaged: %w", err)
	}
	for i, e := range c.Table.Entries {
		if !e.Original.complete() {
			return nil, fmt.Errorf("the capture is damaged: entry %d has no addresses", i+1)
		}
	}
	return c, nil
}
