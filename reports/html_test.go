package reports

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
)

// sampled provides the same made-up series for each trial: a table that fills, drops, and empties.
type sampled struct{ samples int }

func (s sampled) Series(t *results.Trial) ([]results.Sample, []results.ProbeSample, error) {
	if t.Verdict == results.Invalid {
		return nil, nil, nil // never measured
	}
	var samples []results.Sample
	var probes []results.ProbeSample
	for i := range s.samples {
		at := float64(i-5) / 10
		x := float64(i) / float64(s.samples)
		count := min(t.Conntrack.Max, int64(x*2*float64(t.Conntrack.Peak+1)))
		samples = append(samples, results.Sample{
			Seconds: at, Count: count, Max: t.Conntrack.Max, Buckets: t.Conntrack.Buckets,
			Counters: results.Counters{
				Drop:      int64(x * float64(t.Conntrack.Drop)),
				EarlyDrop: int64(x * float64(t.Conntrack.EarlyDrop)),
			},
			Progress: results.Progress{
				Offered: int64(x * 5000), Done: int64(x * float64(t.Load.Done())),
				Failed: int64(x * float64(t.Load.Failed)),
			},
		})
		probes = append(probes, results.ProbeSample{
			Seconds: at, Millis: 1 + 10*math.Abs(math.Sin(at)),
			OK: t.Load.Failed == 0 || i%7 != 0,
		})
	}
	return samples, probes, nil
}

func (s sampled) Experiment() ([]byte, error) { return []byte("experiment: table-full\n"), nil }

// Distributions returns as many latencies as completed, from a millisecond upwards.
func (s sampled) Distributions(t *results.Trial) (map[string]results.Distribution, error) {
	var bars []results.Bar
	for i := range int64(200) {
		bars = append(bars,
			results.Bar{Millis: math.Pow(1.04, float64(i)), Count: t.Load.Done() / 200})
	}
	return map[string]results.Distribution{"http": {Connect: bars[:100], Total: bars}}, nil
}

// withoutParts takes out of a page the parts that are files of their own.
func withoutParts(t *testing.T, document []byte) []byte {
	t.Helper()
	text := string(document)
	for name, part := range map[string]string{
		"uplot.min.js": uplotJS, "bands.js": bandsJS, "export.js": exportJS,
		"page.js": pageJS, "uplot.min.css": uplotCSS,
		"page.css": pageCSS,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in the page", name)
		}
		text = strings.Replace(text, part, "/* "+name+" */", 1)
	}
	return []byte(text)
}

func TestHTMLGolden(t *testing.T) {
	document := render(t, "html", judged(), Options{Series: sampled{20}})
	golden(t, "run.html", withoutParts(t, document))
}

// TestHTMLFetchesNothing: the page names no address that a browser would fetch.
func TestHTMLFetchesNothing(t *testing.T) {
	text := string(render(t, "html", judged(), Options{Series: sampled{20}}))
	outside := regexp.MustCompile(`(?i)(src|href|action|data-src)\s*=\s*["']?(https?:|//)|` +
		`@import|url\(\s*["']?(https?:|//)`)
	if m := outside.FindString(text); m != "" {
		t.Errorf("found %q", m)
	}
	if !strings.Contains(text, `default-src 'none'`) {
		t.Error("no content security policy")
	}
}

// TestHTMLEscapes: text from a run stays text, never markup or script.
func TestHTMLEscapes(t *testing.T) {
	bad := `</script><script>alert(1)</script><img src=x onerror=alert(1)>`
	run := &results.Run{
		Experiment: bad, Summary: bad, ID: bad, Ctload: bad, Warnings: []string{bad},
		Scenarios: []results.Scenario{{
			Name: bad, Configuration: results.Configuration{Rules: bad},
			Trials: []results.Trial{
				{Number: 1, Verdict: results.Invalid, Invalid: []string{bad}, Kernel: bad},
			},
			Thresholds: []results.Outcome{{Expression: bad, Actual: bad}},
		}},
	}
	text := string(render(t, "html", run, Options{Series: sampled{20}}))
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img") {
		t.Error("the run's text became markup")
	}
	if strings.Count(text, "</script>") != 3 {
		t.Errorf("%d scripts end", strings.Count(text, "</script>"))
	}
}

func TestHTMLIsSmall(t *testing.T) {
	// Four scenarios of a minute at ten samples a second.
	if n := len(render(t, "html", fixture(), Options{Series: sampled{600}})); n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestThinKeepsPeaksAndEnds(t *testing.T) {
	samples := make([]results.Sample, 50_000)
	for i := range samples {
		samples[i] = results.Sample{Seconds: float64(i) / 10, Count: int64(i % 100)}
	}
	samples[31_337].Count = 1_000_000
	kept := thin(samples, 500)
	if len(kept) > 504 {
		t.Errorf("%d are left", len(kept))
	}
	if kept[0].Seconds != 0 || kept[len(kept)-1].Seconds != 4999.9 {
		t.Errorf("from %v to %v", kept[0].Seconds, kept[len(kept)-1].Seconds)
	}
	found := false
	for i, s := range kept {
		found = found || s.Count == 1_000_000
		if i > 0 && s.Seconds <= kept[i-1].Seconds {
			t.Fatalf("not in order at %v", s.Seconds)
		}
	}
	if !found {
		t.Error("the peak is gone")
	}
	probes := make([]results.ProbeSample, 10_000)
	for i := range probes {
		probes[i] = results.ProbeSample{Seconds: float64(i), Millis: 1, OK: true}
	}
	probes[77].OK = false
	probes[9_000].Millis = 500
	lost, slow := false, false
	for _, p := range thinProbes(probes, 100) {
		lost = lost || !p.OK
		slow = slow || p.Millis == 500
	}
	if !lost || !slow {
		t.Errorf("lost %v, slow %v", lost, slow)
	}
}

func TestFactsOfHostAndModules(t *testing.T) {
	run := fixture()
	run.Environment.HostLoad = []float64{0.5, 1.25, 2}
	run.Environment.Modules = []string{"nf_conntrack", "x_tables"}
	run.Scenarios[1].Trials[0].Modules = []string{"ip_set", "nf_conntrack", "x_tables"}
	got := map[string]string{}
	for _, fact := range facts(run) {
		got[fact[0]] = fact[1]
	}
	for name, want := range map[string]string{
		"host load at the start": "0.50, 1.25, 2.00 (1, 5, 15 min)",
		"modules in every DUT":   "nf_conntrack, x_tables",
		"more in raised-max":     "ip_set", "more in baseline": "",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}
