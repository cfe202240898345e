package scenarios

import (
	"fmt"
	"strings"
	"testing"
)

// TestGuideHash_OfTheKernel checks the warning of a small hash against the table that the DUT's
// kernel makes.
func TestGuideHash_OfTheKernel(t *testing.T) {
	for _, test := range []struct {
		dut  string
		want string // in the warning; "": there is none
	}{
		{
			"kernel: debian/bullseye, memory: 2GiB",
			"524288 entries in the kernel's own (about) 16384 buckets",
		},
		{"kernel: debian/bookworm, memory: 2GiB", ""}, // 65536 buckets
		{"kernel: debian/bookworm, memory: 1GiB", "inserts fail (chain_toolong"},
		{
			"kernel: debian/bookworm, memory: 2GiB, modules: {load: [nf_conntrack hashsize=4096]}",
			"the module's 4096 buckets",
		},
		{"kernel: debian/bullseye, memory: 2GiB, buckets: 131072", ""},
	} {
		_, warnings, err := Parse("x.yaml", fmt.Appendf(nil, `experiment: x
dut:
  {%s, sysctl: {net.netfilter.nf_conntrack_max: 524288},
  nft: "table ip t { chain c { type filter hook input priority 0; ct state new; } }"}
workload: [{generator: http, requests: 10, concurrency: 2}]
scenarios: {a: {}}
`, test.dut))
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, w := range warnings {
			texts = append(texts, w.Message)
		}
		got := strings.Join(texts, "\n")
		warned := strings.Contains(got, "max is raised but not the hash")
		if warned != (test.want != "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: warnings %q, want %q", test.dut, got, test.want)
		}
		if strings.Contains(test.dut, "bullseye") && strings.Contains(got, "chain_toolong") {
			t.Errorf("%s: Linux 5.10 has no chain_toolong: %q", test.dut, got)
		}
	}
}
