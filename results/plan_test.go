package results

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/kernels"
)

func TestMakePlan(t *testing.T) {
	p, err := MakePlan(Demand{
		Offer:  Flows{Pairs: []Pair{{Rate: 1000, Residence: 120}}},
		Kernel: kernels.Version{Major: 6, Minor: 1}, MemoryBytes: 1900 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Default != (kernels.Size{Max: 65536, Buckets: 65536}) ||
		p.AtDefault.SecondsToFull == nil || *p.AtDefault.SecondsToFull < 65 ||
		*p.AtDefault.SecondsToFull > 66 {
		t.Errorf("default: %+v, %+v", p.Default, p.AtDefault)
	}
	// 120,000 alive and some expired ones, in three quarters of max.
	if p.Size != (kernels.Size{Max: 262144, Buckets: 262144}) || p.AtSize.Alive != 120000 ||
		p.AtSize.Peak <= 120000 || float64(p.AtSize.Peak) > 0.75*262144 {
		t.Errorf("size: %+v, %+v", p.Size, p.AtSize)
	}
	if want := int64(262144 * 264); p.Memory != want {
		t.Errorf("memory %d, want %d", p.Memory, want)
	}
	want := []string{
		"net.netfilter.nf_conntrack_buckets = 262144", "net.netfilter.nf_conntrack_max = 262144",
	}
	if diff := cmp.Diff(want, p.Sysctl); diff != "" {
		t.Error(diff)
	}
	notes := strings.Join(p.Notes, "\n")
	for _, w := range []string{
		"full after 65.5 s", "546 new ones per second", "have expired",
		"Kernel 6.1 by itself makes 65,536 buckets with 1.86 GiB of memory",
		"gives 60,800: it is the rule of kernels before 5.15",
	} {
		if !strings.Contains(notes, w) {
			t.Errorf("%q is not in:\n%s", w, notes)
		}
	}
}

func TestMakePlanEdges(t *testing.T) {
	kernel := kernels.Version{Major: 6, Minor: 12}
	t.Run("the default is enough", func(t *testing.T) {
		p, err := MakePlan(Demand{
			Offer:  Flows{Pairs: []Pair{{Rate: 1, Residence: 120}}, Held: 100},
			Kernel: kernel, MemoryBytes: 480 << 20,
		})
		if err != nil || p.Size != p.Default || !strings.Contains(p.Notes[0], "carries this") {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("held entries alone", func(t *testing.T) {
		p, err := MakePlan(Demand{
			Offer: Flows{Held: 100_000}, Kernel: kernel, MemoryBytes: 480 << 20,
		})
		if err != nil || p.Size.Max != 262144 || p.AtSize.Peak != 100_000 ||
			p.AtDefault.Overflow != 100_000-4096 {
			t.Errorf("%+v, %v", p, err)
		}
	})
	steady := Flows{Pairs: []Pair{{Rate: 1, Residence: 1}}}
	endless := Flows{Pairs: []Pair{{Rate: 1e9, Residence: 432000}}}
	for name, d := range map[string]Demand{
		"no memory": {Offer: steady, Kernel: kernel},
		"fill":      {Offer: steady, Fill: 2, Kernel: kernel, MemoryBytes: 1 << 30},
		"too much":  {Offer: endless, Kernel: kernel, MemoryBytes: 1 << 30},
		"too many buckets": {
			Offer: steady, Given: kernels.Size{Buckets: kernels.LargestBuckets},
			Kernel: kernel, MemoryBytes: 1 << 30,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := MakePlan(d); err == nil {
				t.Errorf("%+v", p)
			}
		})
	}
	for name, f := range map[string]Flows{
		"no load":      {},
		"no residence": {Pairs: []Pair{{Rate: 1}}},
		"negative":     {Pairs: []Pair{{Rate: -1, Residence: 1}}},
	} {
		if f.Validate() == nil {
			t.Errorf("%s is valid", name)
		}
	}
}

// TestMakePlan_Given judges a table that is set: rounded as the kernel does, its room without what
// is held, what does not fit, and what would do instead.
func TestMakePlan_Given(t *testing.T) {
	churn := []Pair{{Rate: 800, Residence: 120}}
	for name, tc := range map[string]struct {
		flows       Flows
		given       kernels.Size
		memory      int64
		buckets     int64
		sustainable float64
		notes       []string
	}{
		"rounded": {
			Flows{Pairs: churn}, kernels.Size{Max: 65_536, Buckets: 16_000}, 8 << 30, 16_384, 546,
			[]string{
				"16,384 buckets of 16,000", "shorter timeouts would do: 800/s for",
				"full after 81.9 s",
			},
		},
		"more held than it holds": {
			Flows{Pairs: churn, Held: 100_000}, kernels.Size{Max: 65_536}, 8 << 30, 262_144, 0,
			[]string{"is full with the entries that are open"},
		},
		"as many held as it holds": {
			Flows{Pairs: churn, Held: 100_000}, kernels.Size{Max: 100_000}, 8 << 30, 262_144, 0,
			[]string{"is full with the entries that are open"},
		},
		"more than the memory": {
			Flows{Pairs: churn}, kernels.Size{Max: 2_000_000, Buckets: 2_000_000}, 256 << 20,
			2_000_384, 16_667,
			[]string{
				"The given table does not fit: full, it takes 504 MiB",
				"262,144 entries in as many buckets take half of the memory at most, and carry",
			},
		},
		"a hash beyond the memory": {
			Flows{Pairs: churn}, kernels.Size{Max: 200_000, Buckets: 100_000_000}, 1 << 30,
			100_000_256, 1667,
			[]string{"The given table does not fit: its hash alone takes 763 MiB"},
		},
		"few ports": {
			Flows{Pairs: churn, NATPorts: 64_512}, kernels.Size{Max: 1 << 20}, 8 << 30, 262_144,
			537.6, []string{"NAT has 64,512 source ports"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := MakePlan(Demand{
				Offer: tc.flows, Given: tc.given, Kernel: kernels.Version{Major: 6, Minor: 12},
				MemoryBytes: tc.memory,
			})
			if err != nil {
				t.Fatal(err)
			}
			if p.Given.Buckets != tc.buckets || math.Abs(p.AtGiven.Sustainable-tc.sustainable) > 1 {
				t.Errorf("%+v sustains %v; want %d buckets and %v",
					p.Given, p.AtGiven.Sustainable, tc.buckets, tc.sustainable)
			}
			notes := strings.Join(p.Notes, "\n")
			for _, word := range tc.notes {
				if !strings.Contains(notes, word) {
					t.Errorf("%q is not in:\n%s", word, notes)
				}
			}
		})
	}
	// Pairs add up, however far apart their lives are.
	p, err := MakePlan(Demand{
		Offer:  Flows{Pairs: []Pair{{Rate: 100, Residence: 2}, {Rate: 1, Residence: 86_400}}},
		Kernel: kernels.Version{Major: 6, Minor: 12}, MemoryBytes: 8 << 30,
	})
	if err != nil || p.AtDefault.Peak < 86_400 || p.AtDefault.Peak > 95_000 {
		t.Errorf("%v: peak %d", err, p.AtDefault.Peak)
	}
}

// TestMakePlanCarries: whatever the load, the size that a plan gives carries it.
func TestMakePlanCarries(t *testing.T) {
	rates, residences := []float64{37, 20_000}, []float64{1, 3600}
	if hosttest.Long() {
		rates, residences = []float64{1, 37, 900, 20_000}, []float64{1, 10, 120, 3600}
	}
	for _, rate := range rates {
		for _, residence := range residences {
			for _, held := range []int64{0, 5000} {
				p, err := MakePlan(Demand{
					Offer: Flows{
						Pairs: []Pair{{Rate: rate, Residence: residence}}, Held: held,
					},
					Kernel: kernels.Version{Major: 6, Minor: 12}, MemoryBytes: 2 << 30,
				})
				if err != nil {
					t.Fatal(err)
				}
				if p.AtSize.Overflow > 0 || p.AtSize.SecondsToFull != nil ||
					float64(p.AtSize.Peak) > 0.75*float64(p.Size.Max) {
					t.Errorf("%v/s for %v s and %d: %+v", rate, residence, held, p)
				}
			}
		}
	}
}
