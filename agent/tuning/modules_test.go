package tuning

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseModules(t *testing.T) {
	text := `xt_conntrack 16384 2 - Live 0xffffffffc0b1d000
nf_conntrack 188416 3 xt_conntrack,nf_nat,nft_ct, Live 0xffffffffc0a4e000
libcrc32c 16384 2 nf_tables,nf_conntrack, Live 0x0000000000000000
binfmt_misc 24576 1 [permanent], Live 0x0 (E)
old 4096 - - Live 0x0
`
	want := []Module{
		{Name: "xt_conntrack", Size: 16384, References: 2},
		{Name: "nf_conntrack", Size: 188416, References: 3,
			UsedBy: []string{"xt_conntrack", "nf_nat", "nft_ct"}},
		{Name: "libcrc32c", Size: 16384, References: 2,
			UsedBy: []string{"nf_tables", "nf_conntrack"}},
		{Name: "binfmt_misc", Size: 24576, References: 1},
		{Name: "old", Size: 4096, References: -1},
	}
	got, err := ParseModules(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"nf_conntrack", "nf_conntrack x 3 -", "nf_conntrack 1 y -",
		"nf_conntrack 1 -7 -"} {
		if got, err := ParseModules(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add("nf_conntrack 188416 3 xt_conntrack,nf_nat, Live 0xffffffffc0a4e000\n")
	f.Add("a 1 -7 -")
	f.Add("a 1 - -\n\nb 2 0 [permanent],")
	f.Fuzz(func(t *testing.T, text string) {
		modules, err := ParseModules(text)
		if err != nil {
			return
		}
		for _, m := range modules {
			if m.Name == "" || m.References < -1 {
				t.Errorf("%+v", m)
			}
			for _, user := range m.UsedBy {
				if user == "" {
					t.Errorf("%+v: a user without a name", m)
				}
			}
		}
	})
}
