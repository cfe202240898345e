package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Bar is a part of a latency distribution: the number of latencies above the bar before and at most
// this long.
type Bar struct {
	Millis float64
	Count  int64
}

// Distributions are the complete latency distributions of a trial's load, in ascending bars, to the
// precision of their recording (three significant digits).
type Distributions struct {
	Connect, Total []Bar // nil where none was recorded
}

// Distributions reads the histograms of a trial, as the generators kept them. A trial without
// histograms is no error.
func (f *Folder) Distributions(t *Trial) (Distributions, error) {
	tf, err := f.Trial(t)
	if err != nil {
		return Distributions{}, err
	}
	data, err := os.ReadFile(tf.File(FileHistograms))
	if errors.Is(err, fs.ErrNotExist) {
		return Distributions{}, nil
	}
	if err != nil {
		return Distributions{}, fmt.Errorf("reading the histograms of trial %d: %w", t.Number, err)
	}
	d, err := decodeDistributions(data)
	if err != nil {
		return Distributions{}, fmt.Errorf("reading %s: %w", tf.File(FileHistograms), err)
	}
	return d, nil
}

// decodeDistributions decodes the latencies in [FileHistograms]. Those of the load as a whole are
// in HdrHistogram's own encoding (V2, compressed, base64), of nanoseconds.
func decodeDistributions(data []byte) (d Distributions, err error) {
	var document struct {
		Connect, Total struct {
			HDR string `json:"hdr"`
		}
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return d, err
	}
	if d.Connect, err = decodeBars(document.Connect.HDR); err != nil {
		return Distributions{}, fmt.Errorf("connect: %w", err)
	}
	if d.Total, err = decodeBars(document.Total.HDR); err != nil {
		return Distributions{}, fmt.Errorf("total: %w", err)
	}
	return d, nil
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
