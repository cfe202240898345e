package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzParse: whatever the text, Parse returns soon, with an experiment or with an InvalidError that
// has a message; and what loads survives being written and read again.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		data, err := Shipped(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, archive := range malformed(f) {
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".yaml") {
				f.Add(experimentIn(file))
			}
		}
	}
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range hostile {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		e, _, err := Parse("fuzz.yaml", data)
		if took := time.Since(start); took > time.Minute {
			t.Fatalf("Parse took %s", took)
		}
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 || err.Error() == "" {
				t.Fatalf("not an InvalidError with problems: %#v", err)
			}
			return
		}
		roundTrip(t, e)
	})
}

// FuzzLifetime checks that lifetimes and weights read as they print.
func FuzzLifetime(f *testing.F) {
	for _, seed := range []string{
		"3s", "exponential(3s)", "lognormal(3s, 1.2)", "[0s, 1s, 1h]", "1s,2s", "exponential(",
		"lognormal(3s,1.2,)", "zipf(1.2)", "(,)", ",",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l, again Lifetime
		if l.UnmarshalText([]byte(text)) == nil {
			printed := l.String()
			err := again.UnmarshalText([]byte(printed))
			if err != nil || again.String() != printed {
				t.Errorf("%q prints as %q, which reads as %q, %v", text, printed, again, err)
			}
		}
		var w, same Weights
		if w.UnmarshalText([]byte(text)) == nil {
			if err := same.UnmarshalText([]byte(w.String())); err != nil || same != w {
				t.Errorf("%q prints as %q, which reads as %v, %v", text, w, same, err)
			}
		}
	})
}

// hostile are texts that break a careless loader.
var hostile = []string{
	"",
	"\x00",
	"\t",
	"---\n...\n---\n",
	"a: &a [*a]\n",
	"experiment: &x\n  <<: *x\n",
	"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n" +
		"d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n",
	strings.Repeat("[", 5000),
	strings.Repeat("- ", 5000),
	strings.Repeat("{a: ", 5000),
	strings.Repeat("a:\n", 3000),
	"experiment: m\nworkload: [{generator: http, requests: [" + strings.Repeat("1,", 500) +
		"1], concurrency: [1,2,3]}]\n",
	"experiment: m\ndut: {sysctl: 5}\nworkload: {}\nscenarios: []\nthresholds: [1]\n" +
		"topology: [a]\n",
	"experiment: m\nextends:\n",
	"experiment: m\nextends: table-full\nscenarios: {new: , baseline: , raised-max: 5}\n",
	"experiment: m\ndut:\nworkload:\n- \nscenarios:\n  a:\n",
	"extends: table-full\nexperiment: m\nomit: [raw-notrack, x]\n" +
		"scenarios: {baseline: {workload: {http: {rate: 5/s}, probe: }}}\n",
}

// TestHostileTexts: the loader refuses them within a bound, which the fuzz target alone would check
// only during fuzzing.
func TestHostileTexts(t *testing.T) {
	for _, text := range hostile {
		start := time.Now()
		e, _, err := Parse("hostile.yaml", []byte(text))
		if err == nil {
			t.Errorf("%.60q loads as %+v", text, e)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%.60q took %s", text, took)
		}
	}
}
