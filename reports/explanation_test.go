package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/capture/saved"
)

// gateway explains outputs that were saved on a router whose table a scanner behind it fills.
func gateway(t *testing.T) *explain.Explanation {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("# conntrack -L | head -80\n")
	const tail = "use=1\n"
	for i := range 70 {
		fmt.Fprintf(&b, "tcp      6 %d SYN_SENT src=10.0.0.66 dst=198.18.0.%d sport=61000 "+
			"dport=23 [UNREPLIED] src=198.18.0.%d dst=203.0.113.1 sport=23 dport=61000 "+tail,
			119-i%40, i, i)
	}
	for i := range 8 {
		fmt.Fprintf(&b, "tcp      6 %d ESTABLISHED src=10.0.0.%d dst=198.18.1.1 sport=1 dport=443 "+
			"src=198.18.1.1 dst=203.0.113.1 sport=443 dport=1 [ASSURED] "+tail, 431_900-i, i)
	}
	for i := range 2 {
		fmt.Fprintf(&b, "udp      17 %d src=10.0.0.%d dst=198.18.1.2 sport=1 dport=53 "+
			"src=198.18.1.2 dst=203.0.113.1 sport=53 dport=1 "+tail, 20-i, i)
	}
	b.WriteString(`# cat /proc/sys/net/netfilter/nf_conntrack_{count,max,buckets}
800
800
1024
# conntrack -S; sleep 10; conntrack -S
cpu=0 found=0 invalid=0 insert_failed=0 drop=0 early_drop=1000
cpu=0 found=0 invalid=0 insert_failed=0 drop=0 early_drop=1350
137 l3proto = 2 proto=17 src=203.0.113.1 dst=198.18.0.9 sport=0 dport=1 PERMANENT sip/signalling
`)
	c, _, err := saved.Read(saved.File{Name: "gateway.txt", Text: b.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	return explain.Explain(c, explain.Options{})
}

func TestExplanation(t *testing.T) {
	x := gateway(t)
	for format, file := range map[string]string{"table": "explain.txt", "markdown": "explain.md"} {
		var b bytes.Buffer
		if err := Explanation(&b, format, x, Options{}); err != nil {
			t.Fatal(err)
		}
		golden(t, file, b.Bytes())
	}
	var b bytes.Buffer
	if err := Explanation(&b, "json", x, Options{}); err != nil {
		t.Fatal(err)
	}
	var back explain.Explanation
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*x, back); diff != "" {
		t.Error(diff)
	}
	if err := Explanation(&b, "pdf", x, Options{}); err == nil {
		t.Error("an unknown format was taken")
	}
}
