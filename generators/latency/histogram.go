// Package latency wraps the HDR histogram of the generators. It has three significant digits from
// 64 ns to one hour, and merges and JSON lose nothing.
package latency

import (
	"encoding/json"
	"fmt"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Every histogram of this package covers this range. It counts values outside at its edges.
const (
	lowest  = 64 * time.Nanosecond
	highest = time.Hour
)

// Histogram is a distribution of durations. The zero value is empty and ready, a nil one is empty
// and read-only. It is not safe for concurrent use.
type Histogram struct {
	counts *hdr.Histogram
	coarse bool
}

// New returns an empty histogram of three significant digits (about 220 KB once used).
func New() *Histogram { return new(Histogram) }

// NewCoarse returns an empty histogram of two significant digits (about 30 KB once used), for each
// second of a time series.
func NewCoarse() *Histogram { return &Histogram{coarse: true} }

func (h *Histogram) allocate() {
	digits := 3
	if h.coarse {
		digits = 2
	}
	if h.counts == nil {
		h.counts = hdr.New(int64(lowest), int64(highest), digits)
	}
}

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	h.allocate()
	// RecordValue fails only out of range.
	_ = h.counts.RecordValue(int64(min(max(d, 0), highest)))
}

// Merge adds all of other's durations. Merging histograms of one precision loses nothing.
func (h *Histogram) Merge(other *Histogram) {
	if other.Count() == 0 {
		return
	}
	if h.counts == nil {
		h.coarse = other.coarse
	}
	h.allocate()
	h.counts.Merge(other.counts)
}

// Reset removes all durations and keeps the memory.
func (h *Histogram) Reset() {
	if h.counts != nil {
		h.counts.Reset()
	}
}

// Count returns the number of durations recorded.
func (h *Histogram) Count() int64 {
	if h == nil || h.counts == nil {
		return 0
	}
	return h.counts.TotalCount()
}

// Quantile returns the duration that a share q (0 to 1) of those recorded does not exceed; 0 when
// empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.counts.ValueAtQuantile(100 * q))
}

// Max returns the longest duration, to the histogram's precision; 0 when empty.
func (h *Histogram) Max() time.Duration { return figure(h, (*hdr.Histogram).Max) }

// Min returns the shortest duration, to the histogram's precision; 0 when empty.
func (h *Histogram) Min() time.Duration { return figure(h, (*hdr.Histogram).Min) }

// Mean returns the average duration, to the histogram's precision; 0 when empty.
func (h *Histogram) Mean() time.Duration { return figure(h, (*hdr.Histogram).Mean) }

// StdDev returns the standard deviation; 0 when empty.
func (h *Histogram) StdDev() time.Duration { return figure(h, (*hdr.Histogram).StdDev) }

func figure[N int64 | float64](h *Histogram, of func(*hdr.Histogram) N) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(of(h.counts))
}

// CountAbove returns how many durations are longer than d, to the histogram's precision.
func (h *Histogram) CountAbove(d time.Duration) int64 {
	if h.Count() == 0 {
		return 0
	}
	var n int64
	for _, bar := range h.counts.Distribution() {
		if bar.From > int64(d) {
			n += bar.Count
		}
	}
	return n
}

// document is the JSON form: readable figures in milliseconds, and the whole distribution in
// HdrHistogram's own V2 compressed base64 encoding, which its other implementations read as well.
type document struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
	HDR   string  `json:"hdr,omitempty"`
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// MarshalJSON writes the figures in milliseconds and the lossless encoding.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	doc := document{
		Count: h.Count(), Mean: milliseconds(h.Mean()), Max: milliseconds(h.Max()),
		P50: milliseconds(h.Quantile(.5)), P90: milliseconds(h.Quantile(.9)),
		P99: milliseconds(h.Quantile(.99)),
	}
	if doc.Count > 0 {
		encoded, err := h.counts.EncodeV2()
		if err != nil {
			return nil, fmt.Errorf("encoding a histogram of %d values: %w", doc.Count, err)
		}
		doc.HDR = string(encoded)
	}
	return json.Marshal(doc)
}

// UnmarshalJSON parses what MarshalJSON wrote. It takes the distribution from the encoding alone.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("decoding a histogram: %w", err)
	}
	*h = Histogram{}
	if doc.HDR == "" {
		return nil
	}
	counts, err := hdr.Decode([]byte(doc.HDR))
	if err != nil {
		return fmt.Errorf("decoding a histogram of %d values: %w", doc.Count, err)
	}
	digits := counts.SignificantFigures()
	from, to := counts.LowestTrackableValue(), counts.HighestTrackableValue()
	if from != int64(lowest) || to != int64(highest) || digits < 2 || digits > 3 {
		return fmt.Errorf("decoding a histogram: range %d..%d ns with %d digits is not one of ours",
			from, to, digits)
	}
	h.counts, h.coarse = counts, digits == 2
	return nil
}

// Coarse reports whether the histogram has two digits instead of three.
func (h *Histogram) Coarse() bool { return h != nil && h.coarse }
