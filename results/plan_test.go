package results

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/kernels"
)

func TestMakePlan(t *testing.T) {
	p, err := MakePlan(Demand{
		Rate: 1000, Residence: 120, Kernel: kernels.Version{Major: 6, Minor: 1},
		MemoryBytes: 1900 << 20,
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
			Rate: 1, Residence: 120, Held: 100, Kernel: kernel, MemoryBytes: 480 << 20,
		})
		if err != nil || p.Size != p.Default || !strings.Contains(p.Notes[0], "carries this") {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("held entries alone", func(t *testing.T) {
		p, err := MakePlan(Demand{Held: 100_000, Kernel: kernel, MemoryBytes: 480 << 20})
		if err != nil || p.Size.Max != 262144 || p.AtSize.Peak != 100_000 ||
			p.AtDefault.Overflow != 100_000-4096 {
			t.Errorf("%+v, %v", p, err)
		}
	})
	for name, d := range map[string]Demand{
		"no load":      {Kernel: kernel, MemoryBytes: 1 << 30},
		"no residence": {Rate: 1, Kernel: kernel, MemoryBytes: 1 << 30},
		"no memory":    {Rate: 1, Residence: 1, Kernel: kernel},
		"fill":         {Rate: 1, Residence: 1, Fill: 2, Kernel: kernel, MemoryBytes: 1 << 30},
		"negative":     {Rate: -1, Residence: 1, Kernel: kernel, MemoryBytes: 1 << 30},
		"too much":     {Rate: 1e9, Residence: 432000, Kernel: kernel, MemoryBytes: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := MakePlan(d); err == nil {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestMakePlanCarries: whatever the load, the size that a plan gives carries it.
func TestMakePlanCarries(t *testing.T) {
	for _, rate := range []float64{1, 37, 900, 20_000} {
		for _, residence := range []float64{1, 10, 120, 3600} {
			for _, held := range []int64{0, 5000} {
				p, err := MakePlan(Demand{
					Rate: rate, Residence: residence, Held: held,
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
