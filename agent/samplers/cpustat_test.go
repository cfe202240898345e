package samplers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// TestParseProcStat reads files in the formats of the kernels that their names say.
func TestParseProcStat(t *testing.T) {
	for name, want := range map[string]struct {
		cpus    int
		entries int64
		sum     results.Counters
		expect  [2]uint32
	}{
		"2.6.32": {1, 0x1f4, results.Counters{
			Found: 0x2b, Invalid: 3, InsertFailed: 2, Drop: 0x10, EarlyDrop: 5, Error: 1,
		}, [2]uint32{2, 3}},
		"4.19": {2, 0xff, results.Counters{
			Found: 0x11, Invalid: 3, InsertFailed: 4, Drop: 6, EarlyDrop: 8, Error: 1,
			SearchRestart: 0x1a,
		}, [2]uint32{1, 1}},
		"5.10": {2, 0xff, results.Counters{
			Found: 2, Invalid: 3, InsertFailed: 4, Drop: 6, EarlyDrop: 8, SearchRestart: 1,
			ClashResolve: 0x0c,
		}, [2]uint32{}},
		"6.1": {2, 0x1000, results.Counters{
			Found: 2, Invalid: 1, InsertFailed: 0x30, Drop: 0x1324, EarlyDrop: 0xc1c,
			SearchRestart: 3,
			ClashResolve:  9, ChainTooLong: 0x2f,
		}, [2]uint32{}},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", "nf_conntrack-"+name))
		if err != nil {
			t.Fatal(err)
		}
		stat, err := parseProcStat(string(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var sums accumulator
		sums.baseline(nil)
		sums.add(&stat.reading)
		if len(stat.cpus) != want.cpus || stat.entries != want.entries {
			t.Errorf("%s: %d CPUs, %d entries", name, len(stat.cpus), stat.entries)
		}
		if diff := cmp.Diff(want.sum, sums.counters()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := [2]uint32{stat.expectCreate, stat.expectDelete}; got != want.expect {
			t.Errorf("%s: expectations %v, want %v", name, got, want.expect)
		}
	}
	for _, bad := range []string{
		"", "\n", "nonsense", "entries found\n1", "entries found\n1 x",
		"entries found\n1 123456789",
	} {
		if stat, err := parseProcStat(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, stat)
		}
	}
}

func FuzzParseProcStat(f *testing.F) {
	for _, name := range []string{"2.6.32", "4.19", "6.1"} {
		text, err := os.ReadFile(filepath.Join("testdata", "nf_conntrack-"+name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		stat, err := parseProcStat(text)
		if err == nil && stat.entries < 0 {
			t.Errorf("%d entries", stat.entries)
		}
	})
}

func cpus(values ...uint32) *reading {
	r := &reading{}
	for cpu, value := range values {
		c := cpuStat{cpu: cpu}
		c.values[statDrop] = value
		r.cpus = append(r.cpus, c)
	}
	return r
}

func TestAccumulator(t *testing.T) {
	var a accumulator
	a.baseline(cpus(100, 0xffff_fff0))
	for _, step := range []struct {
		what     string
		reading  *reading
		sum      int64
		unloaded bool
	}{
		{what: "nothing happened", reading: cpus(100, 0xffff_fff0)},
		{what: "one CPU counts on", reading: cpus(105, 0xffff_fff0), sum: 5},
		{what: "the other wraps", reading: cpus(105, 0x10), sum: 5 + 0x20},
		{what: "a third CPU comes up", reading: cpus(105, 0x10, 7), sum: 5 + 0x20 + 7},
		{what: "the module goes and comes back", reading: cpus(3, 0, 0), sum: 5 + 0x20 + 7 + 3,
			unloaded: true},
		{what: "it was reloaded unseen", reading: cpus(1, 0, 0), sum: 5 + 0x20 + 7 + 3 + 1},
		{what: "it goes on from there", reading: cpus(2, 0, 0), sum: 5 + 0x20 + 7 + 3 + 2},
	} {
		if step.unloaded {
			a.forget()
		}
		a.add(step.reading)
		if got := a.counters().Drop; got != step.sum {
			t.Errorf("%s: drop %d, want %d", step.what, got, step.sum)
		}
	}
	// Sums are wider than the kernel's counters.
	a.baseline(cpus(0))
	for i := range uint32(8) {
		a.add(cpus((i + 1) << 30))
	}
	if got := a.counters().Drop; got != 8<<30 {
		t.Errorf("drop %d, want %d", got, int64(8<<30))
	}
}

func TestParseStatsMessage(t *testing.T) {
	message := []byte{0, 0, 0, 3, // nfgenmsg of CPU 3
		8, 0, statDrop, 0x40, 0, 0, 1, 2, // with NLA_F_NET_BYTEORDER
		8, 0, statChainTooLong, 0, 0x80, 0, 0, 0,
		8, 0, 99, 0, 1, 1, 1, 1, // a counter of a future kernel
		6, 0, statInvalid, 0, 1, 1, 0, 0, // a known one of another width
	}
	var r reading
	if err := r.parseMessage(message); err != nil {
		t.Fatal(err)
	}
	want := cpuStat{cpu: 3}
	want.values[statDrop], want.values[statChainTooLong] = 258, 1<<31
	if diff := cmp.Diff([]cpuStat{want}, r.cpus, cmp.AllowUnexported(cpuStat{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range [][]byte{nil, {0, 0, 0}, {0, 0, 0, 0, 3, 0, 1, 0},
		{0, 0, 0, 0, 12, 0, 1, 0, 1}} {
		if err := new(reading).parseMessage(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func FuzzStatsMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 8, 0, statDrop, 0x40, 0, 0, 1, 2, 5, 0, 7, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		if err := r.parseMessage(data); err == nil && len(r.cpus) != 1 {
			t.Errorf("%d CPUs in one message", len(r.cpus))
		}
	})
}
