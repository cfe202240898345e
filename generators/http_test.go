package generators

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/tuples"
)

// startResponder starts a responder on loopback that ends with the test.
func startResponder(t testing.TB, spec responders.Spec) *responders.Responder {
	t.Helper()
	if spec.Address == "" {
		spec.Address = "127.0.0.1"
	}
	r, err := responders.Listen(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// sound checks the properties of every result.
func sound(t testing.TB, r Result) {
	t.Helper()
	var causes, statuses, offered, completed, failed, due, missed int64
	for _, n := range r.Causes {
		causes += n
	}
	for _, n := range r.Statuses {
		statuses += n
	}
	for _, s := range r.Series {
		offered += s.Offered
		completed += s.Completed
		failed += s.Failed
		due += s.Due
		missed += s.Missed
		if s.Latency.Count() != 0 && s.Latency.Count() != s.Completed {
			t.Errorf("a second has %d completed and %d latencies", s.Completed, s.Latency.Count())
		}
	}
	if r.Offered != r.Completed+r.Failed || r.Failed != causes {
		t.Errorf("offered %d, completed %d, failed %d by %v",
			r.Offered, r.Completed, r.Failed, r.Causes)
	}
	if offered != r.Offered || completed != r.Completed || failed != r.Failed {
		t.Errorf("the series adds up to %d, %d, %d; the whole is %d, %d, %d",
			offered, completed, failed, r.Offered, r.Completed, r.Failed)
	}
	if missed != r.Missed || due != r.Lateness.Count()+missed {
		t.Errorf("%d slots were due, %d missed; %d were sent on schedule, %d missed in all",
			due, missed, r.Lateness.Count(), r.Missed)
	}
	if r.Total.Count() != 0 && r.Total.Count() != r.Completed {
		t.Errorf("%d completed, %d latencies", r.Completed, r.Total.Count())
	}
	if r.Kind == HTTP && statuses > r.Offered {
		t.Errorf("%d statuses for %d requests", statuses, r.Offered)
	}
}

func TestHTTPExactCount(t *testing.T) {
	r := startResponder(t, responders.Spec{
		Kind: responders.HTTP, Ports: []uint16{0, 0, 0}, Body: 100,
	})
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"server closes", Spec{}},
		{"client closes", Spec{CloseBy: Client}},
		{"client resets", Spec{CloseBy: Client, Close: CloseRST}},
		{"kept alive", Spec{KeepAlive: 10}},
		{"sources", Spec{Sources: "127.0.0.2-127.0.0.9"}},
		{
			"source ports",
			Spec{
				Sources: "127.0.1.0/24", SourcePorts: "20000-29999", CloseBy: Client,
				Close: CloseRST, Seed: 3,
			},
		},
		{"open loop", Spec{Rate: 20000, CatchUp: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := r.Counters()
			spec := test.spec
			spec.Kind, spec.Target, spec.Ports = HTTP, "127.0.0.1", r.Ports()
			spec.Count, spec.Timeout = 5000, 30*time.Second
			if spec.Rate == 0 {
				spec.Concurrency = 1000
			}
			var last Progress
			got, err := Run(t.Context(), spec, func(p Progress) {
				if p.Open < 0 || p.Offered < last.Offered {
					t.Errorf("progress went from %+v to %+v", last, p)
				}
				last = p
			})
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Offered != spec.Count || got.Completed != spec.Count ||
				got.Statuses[200] != spec.Count {
				t.Error(counts(got))
			}
			if want := got.Offered; last.Offered != want || last.Completed != got.Completed ||
				last.Open != 0 {
				t.Errorf("the last progress was %+v", last)
			}
			after := r.Counters()
			if n := after.Requests - before.Requests; n != spec.Count {
				t.Errorf("the responder answered %d", n)
			}
			connections := spec.Count
			if spec.KeepAlive > 1 {
				connections = spec.Count / int64(spec.KeepAlive)
			}
			if n := after.Accepted - before.Accepted; n < connections ||
				spec.KeepAlive <= 1 && n != connections {
				t.Errorf("%d connections were accepted", n)
			}
		})
	}
}

// counts describes the outcome of a load.
func counts(r Result) string {
	return fmt.Sprintf("offered %d, completed %d, failed by %v", r.Offered, r.Completed, r.Causes)
}

// respond starts a responder on all addresses of the server.
func (p *pair) respond(t testing.TB, spec responders.Spec) *responders.Responder {
	t.Helper()
	spec.Namespace = p.server.path()
	return startIn(t, spec)
}

// startIn starts a responder on all addresses of a namespace.
func startIn(t testing.TB, spec responders.Spec) *responders.Responder {
	t.Helper()
	r, err := responders.Listen(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func mustPorts(t testing.TB, text string) []uint16 {
	t.Helper()
	ports, err := tuples.ParsePorts(text)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}
