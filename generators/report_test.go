package generators

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators/pacing"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func TestWriteAB(t *testing.T) {
	http := synthetic(rand.New(rand.NewPCG(3, 3)), 1000,
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	http.Ports, http.Path, http.Concurrency = "80", "/index.html", 10
	http.Lateness, http.Late, http.Limits = nil, 0, nil
	http.Statuses[404] = 3
	http.Received, http.Sent = 123456, 9999
	http.Pages = Pages{Server: "nginx", Length: 300, Received: 60_000, KeptAlive: 5}
	http.Pages.Processing, http.Pages.Waiting = http.Total, http.FirstByte
	flows := Result{
		Kind: UDP, Unit: "flows", Target: "10.0.0.1", Ports: "1-1000", Offered: 5000,
		Completed: 5000, Sent: 100,
		Elapsed: time.Second, Sending: time.Second, Missed: 7, Late: 50, Lateness: http.Total,
		Usage:  Usage{Workers: 2, CPUSeconds: .5, Busy: .25, Retransmitted: 3, SYNRetransmitted: 2},
		Limits: []Limit{{LimitPacing, "7 slots were given up"}}, Notes: []string{"a remark"},
		Widths: pacing.Widths{
			Bursts: 5, Sum: 60 * time.Millisecond, Longest: 30 * time.Millisecond,
		},
	}
	for name, r := range map[string]Result{
		"http.txt": http, "udp.txt": flows,
		"nothing.txt": {Kind: TCP, Unit: "connections", Target: "10.0.0.1"},
	} {
		var b bytes.Buffer
		if err := WriteAB(&b, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
	full := errors.New("full")
	broken := writer(func([]byte) (int, error) { return 0, full })
	if err := WriteAB(broken, http); !errors.Is(err, full) {
		t.Errorf("a writer's failure became %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
