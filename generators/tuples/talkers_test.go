package tuples

import (
	"math"
	"testing"
)

// weighted returns the walk through a space of n weighted sources.
func weighted(t *testing.T, sources, ports string, zipf float64, seed uint64) *Allocator {
	t.Helper()
	space := Space{Sources: parse(t, sources), Targets: parse(t, "10.2.0.1"), Zipf: zipf}
	var err error
	if space.SourcePorts, err = ParsePorts(ports); err != nil {
		t.Fatal(err)
	}
	a, err := NewAllocator(space, seed)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestTalkers_Shares checks that each source has exactly the share that its weight gives it, to one
// number in a block.
func TestTalkers_Shares(t *testing.T) {
	for _, test := range []struct {
		sources string
		n       int
		zipf    float64
	}{
		{"10.1.0.1-10.1.0.2", 2, 1}, {"10.1.0.0/24", 254, 1.2}, {"10.1.0.0/20", 4094, 0.8},
		{"10.0.0.0/16", 65534, 1.2}, {"10.1.0.0/24", 254, 3},
	} {
		a := weighted(t, test.sources, "1024-65535", test.zipf, 5)
		counts := make([]int, test.n)
		for i := range uint64(2 * block) {
			source, _, _, _ := a.Split(i)
			counts[source]++
		}
		sum := 0.0
		for k := range counts {
			sum += math.Pow(float64(k+1), -test.zipf)
		}
		for k, n := range counts {
			want := math.Pow(float64(k+1), -test.zipf) / sum * 2 * block
			if math.Abs(float64(n)-want) > 2 {
				t.Fatalf("zipf(%v): source %d of %d has %d of %d numbers, want %.1f",
					test.zipf, k+1, test.n, n, 2*block, want)
			}
		}
	}
}

// TestTalkers_Tuples checks that a walk by weight repeats no tuple before its end, that the next
// one repeats, and that each leads back to its number.
func TestTalkers_Tuples(t *testing.T) {
	for _, ports := range []string{"1024", "1024-1025", "1024-3000", "1024-65535"} {
		for seed := range uint64(3) {
			a := weighted(t, "10.1.0.1-10.1.0.50", ports, 1.2, seed)
			seen := make(map[Tuple]bool, a.Len())
			for i := range a.Len() {
				tuple := a.At(i)
				if seen[tuple] {
					t.Fatalf("ports %s, seed %d: number %d repeats %v", ports, seed, i, tuple)
				}
				seen[tuple] = true
				if back, ok := a.Find(tuple); !ok || back != i {
					t.Fatalf("ports %s, seed %d: %v is number %d, found at %d, %t",
						ports, seed, tuple, i, back, ok)
				}
			}
			if tuple := a.At(a.Len()); !seen[tuple] {
				t.Errorf("ports %s, seed %d: %s, but number %d is another one",
					ports, seed, a.Describe(), a.Len())
			}
			if a.Check(a.Len()) != nil || a.Check(a.Len()+1) == nil {
				t.Errorf("%s: the check does not hold", a.Describe())
			}
			if got := a.Room(1); got != float64(a.Len()) {
				t.Errorf("room for %.0f, want %d", got, a.Len())
			}
		}
	}
	other := weighted(t, "10.1.0.1-10.1.0.50", "1024-3000", 1.2, 1)
	same := weighted(t, "10.1.0.1-10.1.0.50", "1024-3000", 1.2, 1)
	another := weighted(t, "10.1.0.1-10.1.0.50", "1024-3000", 1.2, 2)
	equal := 0
	for i := range uint64(1000) {
		if other.At(i) != same.At(i) {
			t.Fatal("two walks of one seed differ")
		}
		if other.At(i) == another.At(i) {
			equal++
		}
	}
	if equal > 100 {
		t.Errorf("%d of 1000 tuples do not depend on the seed", equal)
	}
	if _, err := newTalkers(block+1, 1, 0); err == nil {
		t.Error("more sources than a block has numbers were accepted")
	}
}
