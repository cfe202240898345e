package modload

import (
	"slices"
	"strings"
	"testing"
)

const index = `
ip_conntrack libcrc32c.ko nf_conntrack.ko
ipv6 
nf_conntrack libcrc32c.ko nf_conntrack.ko
nft_expr_ct libcrc32c.ko nf_conntrack.ko nf_tables.ko nft_ct.ko
`

func TestChain(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		ok    bool
	}{
		{"ip_conntrack", []string{"libcrc32c.ko", "nf_conntrack.ko"}, true},
		{"nf-conntrack", []string{"libcrc32c.ko", "nf_conntrack.ko"}, true},
		{"nft-expr-ct", []string{"libcrc32c.ko", "nf_conntrack.ko", "nf_tables.ko", "nft_ct.ko"},
			true},
		{"ipv6", nil, true}, // built in
		{"conntrack", nil, false},
		{"nf_conntrac", nil, false},
		{"libcrc32c.ko", nil, false},
		{"", nil, false},
		{"ipv6 ", nil, false},
		{"nf_conntrack libcrc32c.ko", nil, false},
		{"ipv6 \nnf_conntrack", nil, false},
	}
	for _, tt := range tests {
		files, ok := Chain([]byte(index), tt.name)
		if ok != tt.ok || !slices.Equal(files, tt.files) {
			t.Errorf("%q: %q, %v; want %q, %v", tt.name, files, ok, tt.files, tt.ok)
		}
	}
	if _, ok := Chain(nil, "ipv6"); ok {
		t.Error("an empty index knows a name")
	}
}

func FuzzChain(f *testing.F) {
	f.Add(index, "nf_conntrack")
	f.Add("\na \n", "a")
	f.Fuzz(func(t *testing.T, index, name string) {
		files, ok := Chain([]byte(index), name)
		if !ok {
			return
		}
		if !strings.Contains(index, "\n"+Canonical(name)+" ") {
			t.Errorf("%q is found where it is not", name)
		}
		for _, file := range files {
			if !strings.Contains(index, file) || strings.ContainsAny(file, " \n") {
				t.Errorf("file %q", file)
			}
		}
	})
}

// TestOutsideOfAGuest checks that errors outside a guest name what is missing.
func TestOutsideOfAGuest(t *testing.T) {
	if err := Boot(); err == nil || !strings.Contains(err.Error(), BootFile) {
		t.Errorf("error %v, want the name of the list", err)
	}
	err := Load("nf_conntrack")
	if err == nil || !strings.Contains(err.Error(), "load module nf_conntrack: ") {
		t.Errorf("error %v, want the name of the module", err)
	}
	for _, args := range [][]string{nil, {"-q"}, {"--"}, {"-q", "--", "x"}, {"x"}} {
		if status := Main(args); status != 1 {
			t.Errorf("modprobe %q gives %d, want 1", args, status)
		}
	}
}
