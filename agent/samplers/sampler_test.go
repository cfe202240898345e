package samplers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// fakeProc is a procfs of files.
type fakeProc struct {
	t    *testing.T
	root string
}

func newFakeProc(t *testing.T) fakeProc {
	p := fakeProc{t, t.TempDir()}
	p.write("net/dev", "")
	p.write("modules", "")
	return p
}

func (p fakeProc) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p fakeProc) load(count, drop int) {
	p.write("sys/net/netfilter/nf_conntrack_count", fmt.Sprintln(count))
	p.write("sys/net/netfilter/nf_conntrack_max", "4096\n")
	p.write("sys/net/netfilter/nf_conntrack_buckets", "4096\n")
	p.write("net/stat/nf_conntrack", fmt.Sprintf("entries drop\n%08x %08x\n", count, drop))
}

// unload removes the files. In procfs their open descriptors die with the module; here the test
// closes them.
func (p fakeProc) unload(s *Sampler) {
	if err := errors.Join(s.table.close(), s.counters.stat.close()); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"sys/net/netfilter", "net/stat"} {
		if err := os.RemoveAll(filepath.Join(p.root, name)); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p fakeProc) sampler() *Sampler {
	p.t.Helper()
	s, err := New(Options{Proc: p.root, Sys: filepath.Join(p.root, "none"), KernelLog: "none"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return s
}

func sampleOf(t *testing.T, s *Sampler) Sample {
	t.Helper()
	sample, err := s.Sample(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sample
}

// TestSamplerFollowsTheModule loads, removes and reloads connection tracking under a sampler.
func TestSamplerFollowsTheModule(t *testing.T) {
	proc := newFakeProc(t)
	s := proc.sampler()
	for _, step := range []struct {
		what string
		do   func()
		want Table
		drop int64
	}{
		{"absent", func() {}, Table{}, 0},
		{"loaded in mid-run: it counts from zero", func() { proc.load(5, 3) },
			Table{true, 5, 4096, 4096}, 3},
		{"counting on", func() { proc.load(6, 10) }, Table{true, 6, 4096, 4096}, 10},
		{"removed", func() { proc.unload(s) }, Table{}, 10},
		{"back again", func() { proc.load(1, 11) }, Table{true, 1, 4096, 4096}, 21},
		{"reloaded between two samples", func() { proc.load(1, 2) }, Table{true, 1, 4096, 4096},
			23},
	} {
		step.do()
		sample := sampleOf(t, s)
		if len(sample.Problems) > 0 || sample.Counters == nil {
			t.Fatalf("%s: %+v", step.what, sample)
		}
		if sample.Table != step.want || sample.Counters.Drop != step.drop {
			t.Errorf("%s: %+v, drop %d; want %+v, %d", step.what, sample.Table,
				sample.Counters.Drop, step.want, step.drop)
		}
	}
	s.Mark()
	proc.load(1, 7)
	if got := sampleOf(t, s).Counters; *got != (results.Counters{Drop: 5}) {
		t.Errorf("after the mark %+v", got)
	}
}

// TestSampler_PausesAfterFailure checks that the sampler does not ask ctnetlink again at once: each
// question may make the kernel run modprobe.
func TestSampler_PausesAfterFailure(t *testing.T) {
	proc := newFakeProc(t)
	proc.load(5, 3)
	s := proc.sampler()
	if err := errors.Join(s.counters.stat.close(), os.RemoveAll(filepath.Join(proc.root,
		"net/stat"))); err != nil {
		t.Fatal(err)
	}
	s.counters.pauseTo, s.counters.failure = math.MaxInt64, errors.New("refused")
	sample := sampleOf(t, s)
	if sample.Counters != nil || len(sample.Problems) != 1 || sample.Count != 5 {
		t.Errorf("%+v", sample)
	}
}

// TestSamplerBaselineAfterTrouble checks that counts of an unreadable time do not go to the trial.
func TestSamplerBaselineAfterTrouble(t *testing.T) {
	proc := newFakeProc(t)
	proc.load(5, 3)
	proc.write("net/stat/nf_conntrack", "nonsense\n")
	s := proc.sampler()
	if sample := sampleOf(t, s); sample.Counters != nil || len(sample.Problems) != 1 {
		t.Errorf("%+v", sample)
	}
	proc.load(5, 1000)
	if got := sampleOf(t, s).Counters.Drop; got != 0 {
		t.Errorf("drop %d at the baseline", got)
	}
	proc.load(5, 1001)
	if got := sampleOf(t, s).Counters.Drop; got != 1 {
		t.Errorf("drop %d, want 1", got)
	}
}

func TestSamplerKernelLog(t *testing.T) {
	proc := newFakeProc(t)
	s, err := New(Options{Proc: proc.root, Sys: proc.root,
		KernelLog: filepath.Join(proc.root, "no-such-device")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if sample := sampleOf(t, s); sample.Log != nil || len(sample.Problems) != 1 ||
		!strings.Contains(sample.Problems[0], "no-such-device") {
		t.Errorf("%+v", sample)
	}
	if _, err := New(Options{Proc: filepath.Join(proc.root, "nowhere")}); err == nil {
		t.Error("no error without procfs")
	}
}

func TestSamplerRun(t *testing.T) {
	proc := newFakeProc(t)
	proc.load(5, 3)
	s := proc.sampler()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Millisecond)
		defer cancel()
		samples := 0
		if err := s.Run(ctx, 100*time.Millisecond, func(Sample) { samples++ }); err != nil {
			t.Error(err)
		}
		if samples != 11 {
			t.Errorf("%d samples in a second", samples)
		}
	})
}

func TestSampleJSON(t *testing.T) {
	sample := Sample{
		Monotonic: time.Second, Realtime: time.Unix(1, 0).UTC(), Took: time.Microsecond,
		Table:    Table{true, 1, 2, 3},
		Counters: &results.Counters{Drop: 4}, Log: &LogCounts{Lines: 5},
		Lines: []LogLine{{Kind: LineBug, Record: Record{Sequence: 6, Message: "BUG: x"}}},
	}
	text, err := json.Marshal(sample)
	if err != nil {
		t.Fatal(err)
	}
	var back Sample
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, field := range []string{`"count":1`, `"max":2`, `"buckets":3`, `"loaded":true`,
		`"kind":"bug"`, `"message":"BUG: x"`} {
		if !strings.Contains(string(text), field) {
			t.Errorf("no %s in %s", field, text)
		}
	}
}
