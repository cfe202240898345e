package capture

import (
	"encoding/json"
	"io"
	"strconv"
)

// piece is the length, in bytes, at which text of entries is written.
const piece = 32 << 10

// write writes the JSON of a capture. It appends the entries itself: encoding/json would take half
// of the CPU time of a capture for them.
func write(w io.Writer, c *Capture) error {
	head := *c
	head.Table.Entries = nil
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	const end = "}}" // of the table, which has its scope at least, and of the capture
	text = append(text[:len(text)-len(end)], `,"entries":[`...)
	for i := range c.Table.Entries {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendEntry(text, &c.Table.Entries[i])
		if len(text) > piece {
			if _, err := w.Write(text); err != nil {
				return err
			}
			text = text[:0]
		}
	}
	_, err = w.Write(append(text, "]"+end...))
	return err
}

// appendEntry appends an entry as encoding/json writes it.
func appendEntry(b []byte, e *Entry) []byte {
	b = appendText(append(b, `{"p":`...), e.Protocol)
	if e.State != "" {
		b = appendText(append(b, `,"s":`...), e.State)
	}
	b = strconv.AppendInt(append(b, `,"left":`...), e.Left, 10)
	b = appendTrue(b, `,"unreplied":true`, e.Unreplied)
	b = appendTrue(b, `,"assured":true`, e.Assured)
	b = appendTrue(b, `,"offloaded":true`, e.Offloaded)
	b = appendTuple(append(b, `,"o":`...), &e.Original)
	if e.Reply != (Tuple{}) {
		b = appendTuple(append(b, `,"r":`...), &e.Reply)
	}
	if e.Helper != "" {
		b = appendText(append(b, `,"helper":`...), e.Helper)
	}
	if e.Zone != 0 {
		b = strconv.AppendInt(append(b, `,"zone":`...), e.Zone, 10)
	}
	b = appendTrue(b, `,"stays":true`, e.Stays)
	b = appendTrue(b, `,"gone":true`, e.Gone)
	return append(b, '}')
}

func appendTrue(b []byte, text string, is bool) []byte {
	if is {
		b = append(b, text...)
	}
	return b
}

func appendTuple(b []byte, t *Tuple) []byte {
	b, _ = t.Source.AppendText(append(b, `{"s":"`...)) // never fails
	b, _ = t.Destination.AppendText(append(b, `","d":"`...))
	b = append(b, '"')
	if t.SourcePort != 0 {
		b = strconv.AppendUint(append(b, `,"sp":`...), uint64(t.SourcePort), 10)
	}
	if t.DestinationPort != 0 {
		b = strconv.AppendUint(append(b, `,"dp":`...), uint64(t.DestinationPort), 10)
	}
	if t.Type != "" {
		b = appendText(append(b, `,"type":`...), t.Type)
	}
	return append(b, '}')
}

// appendText appends a JSON string. The words of the kernel need no escapes.
func appendText(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // never fails for a string
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
