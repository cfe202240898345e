package progress

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
)

// tell plays a short run to a view, from several goroutines as a real one does.
func tell(v View) {
	v.Trial(1, 2, "baseline-1")
	v.Stage("boot")
	v.Note("falling back to TCG")
	v.Stage("load")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for n := range int64(100) {
				v.Load(n, 1, 100)
				v.Table(results.Sample{Count: n, Max: 50, Counters: results.Counters{Drop: n}})
			}
		})
	}
	group.Wait()
	v.Ended(results.Trial{Verdict: results.TableFull, Load: results.Load{Offered: 100, Completed: 99}, Conntrack: results.Conntrack{Peak: 50, Max: 50}})
	v.Trial(2, 2, "cure-1")
	v.Stage("boot")
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	v := NewLines(&out)
	tell(v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"trial 1 of 2: baseline-1\n", "  boot\n", "  load\n", "falling back to TCG\n", "table-full: 99 of 100 completed, peak 50 of 50\n", "trial 2 of 2: cure-1\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

// TestBarsEnd is about deadlocks: bars draw in goroutines of their own and ask the view for its state,
// while the view moves them. A trial that was never ended must not hold Close either.
func TestBarsEnd(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/terminal")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		v := newBars(file)
		tell(v)
		done <- v.Close()
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the bars did not end within 20 s")
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "falling back to TCG") || !strings.Contains(string(text), "baseline-1: table-full") {
		t.Errorf("lines above the bars are lost:\n%q", text)
	}
}
