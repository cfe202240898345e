package results

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

// recorded returns a document as the generators write it, with the same latencies (in ns) as
// both.
func recorded(t testing.TB, latencies ...int64) []byte {
	t.Helper()
	h := hdr.New(64, 3600e9, 3)
	for _, ns := range latencies {
		if err := h.RecordValue(ns); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := h.EncodeV2()
	if err != nil {
		t.Fatal(err)
	}
	one := map[string]any{"count": len(latencies), "hdr": string(encoded)}
	data, err := json.Marshal(map[string]any{"kind": "http", "connect": one, "total": one})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDistributions(t *testing.T) {
	folder, err := Create(t.TempDir() + "/run")
	if err != nil {
		t.Fatal(err)
	}
	tf, err := folder.CreateTrial("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	trial := &Trial{Number: 1, Folder: tf.Name()}
	if d, err := folder.Distributions(trial); err != nil || d != nil {
		t.Errorf("without histograms: %v, %v", d, err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(tf.File(FileHistograms), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []Bar{{1, 2}, {2.5, 1}, {7130, 1}}
	nearly := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 0.001*b })
	load := recorded(t, 1_000_000, 1_000_000, 2_500_000, 7_130_000_000)
	for name, data := range map[string][]byte{
		"":      load, // of an older build
		"users": fmt.Appendf(nil, `{"entries": {"users": %s}}`, load),
	} {
		write(data)
		d, err := folder.Distributions(trial)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d[name].Total, nearly); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(d[name].Total, d[name].Connect); diff != "" {
			t.Error(diff)
		}
	}
	for _, bad := range []string{
		"", "{", `{"total": {"hdr": "AAAA"}}`, `{"connect": {"hdr": "?"}}`,
		`{"entries": {"users": {"connect": {"hdr": "?"}}}}`,
	} {
		write([]byte(bad))
		if d, err := folder.Distributions(trial); err == nil {
			t.Errorf("%q: %v", bad, d)
		}
	}
	if _, err := folder.Distributions(&Trial{Folder: "../else"}); err == nil {
		t.Error("a folder outside the run")
	}
}

func FuzzDecodeDistributions(f *testing.F) {
	f.Add(recorded(f, 1e6, 2e6, 3e9))
	f.Add(recorded(f))
	f.Add([]byte(fmt.Sprintf(`{"total": {"hdr": %q}}`,
		"HISTFAAAABx4nJNpmSzMwMDAxQABzFCaEUwLMHwAAAvjAd8=")))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := decodeDistributions(data)
		if err != nil {
			return
		}
		for _, d := range all {
			last := -1.0
			for _, b := range d.Total {
				if b.Millis <= last || b.Count <= 0 {
					t.Errorf("%v after %v", b, last)
				}
				last = b.Millis
			}
		}
	})
}
