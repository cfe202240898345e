package results

import (
	"slices"
	"strings"
	"testing"
)

// crossing returns a direction in which so many of the sent frames arrived, and others were dropped
// at places.
func crossing(sent, received int64, places map[string]int64) Crossing {
	c := Crossing{Sent: sent, Received: received}
	for place, n := range places {
		c.Add(place, n)
	}
	c.Missing = c.Sent - c.Received - c.Dropped
	return c
}

func TestCrossing(t *testing.T) {
	for name, test := range map[string]struct {
		crossing Crossing
		lost     int64
		much     bool
		words    string
	}{
		"all arrived": {crossing(1000, 1000, nil), 0, false, ""},
		"frames under way are no loss": {
			crossing(60, 57, nil), 3, false, "3 of 60 frames (3 at a place that no counter covers)",
		},
		"one frame for two nodes arrives twice": {crossing(100, 102, nil), 0, false, ""},
		"half a percent is tolerated": {
			crossing(10_000, 9950, map[string]int64{"dut/client": 50}), 50, false,
			"50 of 10,000 frames (50 at the lab's end of dut/client)",
		},
		"a tap that its machine does not empty": {
			crossing(300_000, 31_930, map[string]int64{"dut/client": 268_066, "client": 4}), 268_070, true,
			"268,070 of 300,000 frames (268,066 at the lab's end of dut/client and 4 at the card of client)",
		},
		"nothing arrived": {
			crossing(20, 0, nil), 20, true, "20 of 20 frames (20 at a place that no counter covers)",
		},
	} {
		c := test.crossing
		if c.Lost() != test.lost || c.significant() != test.much {
			t.Errorf("%s: lost %d, significant %v", name, c.Lost(), c.significant())
		}
		if test.words != "" && c.words() != test.words {
			t.Errorf("%s: %q, want %q", name, c.words(), test.words)
		}
	}
}

// TestValidate_LostFrames has a load that did not reach the DUT end INVALID, but not where the
// experiment makes links lose frames.
func TestValidate_LostFrames(t *testing.T) {
	trial := Trial{Seconds: 3, Transit: &Transit{
		ToDUT: crossing(300_000, 30_000, map[string]int64{"dut/client": 270_000}),
	}}
	reasons := Validate(&trial, Evidence{})
	at := slices.IndexFunc(reasons, func(r Reason) bool { return r.Code == CodeLostFrames })
	if at < 0 || !strings.Contains(reasons[at].Text, "carried 10,000 frames a second") {
		t.Fatalf("%v, want %s with the rate", reasons, CodeLostFrames)
	}
	trial.Transit.Expected = true
	for _, r := range Validate(&trial, Evidence{}) {
		if r.Code == CodeLostFrames {
			t.Errorf("a loss on purpose is judged: %s", r.Text)
		}
	}
	trial.Verdict = Clean
	if all := strings.Join(Insights(&trial), "\n"); !strings.Contains(all, "270,000 of 300,000") {
		t.Errorf("the loss on purpose is not told: %q", all)
	}
}
