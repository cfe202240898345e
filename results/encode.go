package results

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"reflect"
	"strings"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ctload/ctload/internal/printable"
)

// Encode writes run.json with the run's conclusion: indented, with a newline at its end, empty
// lists as such and not as null. The error names a figure that is NaN or infinite: no measurement
// yields one.
func Encode(w io.Writer, run *Run) error {
	document := *run
	document.Conclusion = new(Conclude(run))
	document.Scenarios = make([]Scenario, len(run.Scenarios))
	for i, s := range run.Scenarios {
		if s.Trials == nil {
			s.Trials = []Trial{}
		}
		document.Scenarios[i] = s
	}
	if err := WriteJSON(w, document); err != nil {
		if path, found := notNumber(reflect.ValueOf(document), ""); found {
			return fmt.Errorf("writing the run as JSON: %s is no number: %w", path, err)
		}
		return fmt.Errorf("writing the run as JSON: %w", err)
	}
	return nil
}

// WriteJSON writes a value as readable JSON: indented, with <, > and & unescaped, and with escapes
// for what a terminal would obey.
func WriteJSON(w io.Writer, value any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(b.Bytes()))
	return err
}

// notNumber returns the path of the first figure that JSON cannot hold.
func notNumber(v reflect.Value, path string) (string, bool) {
	switch v.Kind() {
	case reflect.Float64:
		return path, math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0)
	case reflect.Pointer:
		if v.IsNil() {
			return "", false
		}
		return notNumber(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			if p, found := notNumber(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); found {
				return p, true
			}
		}
	case reflect.Struct:
		found := ""
		eachField(v.Type(), func(name string, field reflect.StructField) {
			at := strings.TrimPrefix(path+"."+name, ".")
			if p, ok := notNumber(v.FieldByIndex(field.Index), at); ok && found == "" {
				found = p
			}
		})
		return found, found != ""
	}
	return "", false
}

// maxTrials bounds the trials of a run, and with them the memory that a stranger's document takes.
const maxTrials = 100_000

// decode reads run.json of this or an older ctload, but no newer schema. It ignores unknown fields,
// which a newer build of the same schema may have added.
func decode(data []byte) (*Run, error) {
	// Documents from before the first release carry no version and differ in nothing else.
	version := struct {
		Schema    int
		Scenarios []struct{ Trials []json.RawMessage }
	}{Schema: SchemaVersion}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, jsonError(data, err)
	}
	trials := 0
	for _, s := range version.Scenarios {
		trials += len(s.Trials)
	}
	if trials > maxTrials {
		return nil, fmt.Errorf("the run has %d trials, more than %d", trials, maxTrials)
	}
	if v := version.Schema; v < 1 || v > SchemaVersion {
		return nil, fmt.Errorf("the run has schema %d; this ctload reads 1 to %d", v, SchemaVersion)
	}
	run := &Run{}
	if err := json.Unmarshal(data, run); err != nil {
		return nil, jsonError(data, err)
	}
	run.Schema = SchemaVersion
	run.Conclusion = nil // a later build may conclude otherwise
	for i := range run.Scenarios {
		for j := range run.Scenarios[i].Trials {
			t := &run.Scenarios[i].Trials[j]
			if _, known := severity[t.Verdict]; !known {
				t.Invalidate(Reason{CodeUnknown, fmt.Sprintf("%q is no verdict", t.Verdict)})
				t.Verdict = Invalid
			}
			c := &t.Conntrack
			c.FillShare = cmp.Or(c.FillShare, c.Fill()) // an older build wrote none
		}
	}
	return run, nil
}

// jsonError adds the position in the document to the error.
func jsonError(data []byte, err error) error {
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
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

// Bar counts the latencies of a distribution that are above the bar before and at most this long.
type Bar struct {
	Millis float64
	Count  int64
}

// Distribution is the complete distribution of an entry's latencies, in ascending bars, to the
// precision of their recording (three significant digits).
type Distribution struct {
	Connect, Total []Bar // nil where none was recorded
}

// Distributions reads the histograms of a trial as the generators kept them, if there are any: by
// the names of the entries, and in a run of an older build those of all entries together, without
// a name.
func (f *Folder) Distributions(t *Trial) (map[string]Distribution, error) {
	tf, err := f.Trial(t)
	if err != nil {
		return nil, err
	}
	data, err := f.read(tf.at(FileHistograms), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var d map[string]Distribution
	if err == nil {
		d, err = decodeDistributions(data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the histograms of trial %d: %w", t.Number, err)
	}
	return d, nil
}

// histograms are the latencies of what one generator made, in HdrHistogram's own encoding (V2,
// compressed, base64), of nanoseconds.
type histograms struct {
	Connect, Total struct {
		HDR string `json:"hdr"`
	}
}

func (h histograms) decode() (d Distribution, err error) {
	if d.Connect, err = decodeBars(h.Connect.HDR); err != nil {
		return d, fmt.Errorf("connect: %w", err)
	}
	if d.Total, err = decodeBars(h.Total.HDR); err != nil {
		return d, fmt.Errorf("total: %w", err)
	}
	return d, nil
}

// decodeDistributions decodes the latencies in [FileHistograms].
func decodeDistributions(data []byte) (map[string]Distribution, error) {
	var document struct {
		histograms // of an older build
		Entries    map[string]histograms
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, err
	}
	if document.Entries == nil {
		document.Entries = map[string]histograms{"": document.histograms}
	}
	all := map[string]Distribution{}
	for name, h := range document.Entries {
		d, err := h.decode()
		if err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
		all[name] = d
	}
	return all, nil
}

func decodeBars(encoded string) (bars []Bar, err error) {
	if encoded == "" {
		return nil, nil
	}
	// The library indexes into its input without checking it.
	defer func() {
		if broken := recover(); broken != nil {
			bars, err = nil, fmt.Errorf("the histogram is damaged: %v", broken)
		}
	}()
	h, err := hdr.Decode([]byte(encoded))
	if err != nil {
		return nil, fmt.Errorf("decoding a histogram: %w", err)
	}
	for _, b := range h.Distribution() {
		if b.Count > 0 {
			bars = append(bars, Bar{Millis: float64(b.To) / 1e6, Count: b.Count})
		}
	}
	return bars, nil
}
