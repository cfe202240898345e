package results

import (
	"strings"
	"testing"
)

// crossing returns a direction in which received of the sent frames arrived, and others were
// dropped at places.
func crossing(sent, received int64, places ...Place) Crossing {
	c := Crossing{Sent: sent, Received: received}
	for _, p := range places {
		c.Add(p)
	}
	c.Balance()
	return c
}

func TestCrossing(t *testing.T) {
	queue := func(n int64) Place { return Place{"dut", "client", PartQueue, n} }
	card := Place{"client", "client", PartCard, 4}
	filter := Place{"dut", "client", PartFilter, 30}
	for name, test := range map[string]struct {
		crossing Crossing
		lost     int64
		much     bool
		words    string
	}{
		"all arrived": {crossing(1000, 1000), 0, false, ""},
		"frames under way are no loss": {
			crossing(60, 57), 3, false, "3 of 60 frames (3 at a place that no counter covers)",
		},
		"one frame for two nodes arrives twice": {
			crossing(100, 102), 0, false, "",
		},
		"multicasts that the DUT did not join are no loss": {
			crossing(100, 70, filter), 0, false, "",
		},
		"half a percent is tolerated": {
			crossing(10_000, 9950, queue(50)), 50, false,
			"50 of 10,000 frames (50 at the lab's queue to dut/client)",
		},
		"a tap that its machine does not empty": {
			crossing(300_000, 31_930, card, queue(268_066)), 268_070, true,
			"268,070 of 300,000 frames (268,066 at the lab's queue to dut/client and 4 at " +
				"the card of client/client)",
		},
		"nothing arrived": {
			crossing(20, 0), 20, true, "20 of 20 frames (20 at a place that no counter covers)",
		},
	} {
		c := test.crossing
		if words := c.Words(); c.Lost() != test.lost || c.Significant() != test.much ||
			test.words != "" && words != test.words {
			t.Errorf("%s: lost %d, significant %v, %q", name, c.Lost(), c.Significant(), words)
		}
		if c.Sent != c.Received+c.Dropped+c.Missing {
			t.Errorf("%s: %+v does not add up", name, c)
		}
	}
}

// TestValidate_LostFrames has a load that did not reach the DUT end INVALID, but not where the
// experiment makes links lose frames.
func TestValidate_LostFrames(t *testing.T) {
	trial := Trial{Seconds: 3, Transit: &Transit{
		ToDUT: crossing(300_000, 30_000, Place{"dut", "client", PartQueue, 270_000}),
	}}
	reasons := Validate(&trial, Evidence{})
	if len(reasons) != 1 || reasons[0].Code != CodeOverload ||
		!strings.Contains(reasons[0].Text, "carried 10,000 frames a second") {
		t.Fatalf("%v, want %s with the rate", reasons, CodeOverload)
	}
	few := Trial{Transit: &Transit{
		FromDUT: crossing(10_000, 9900, Place{"client", "client", PartQueue, 100}),
	}}
	if got := Validate(&few, Evidence{}); len(got) != 1 || got[0].Code != CodeLostFrames {
		t.Errorf("%v, want %s", got, CodeLostFrames)
	}
	trial.Transit.Expected = true
	for _, r := range Validate(&trial, Evidence{}) {
		t.Errorf("a loss on purpose is judged: %s", r.Text)
	}
	trial.Verdict = Clean
	if all := strings.Join(Insights(&trial), "\n"); !strings.Contains(all, "270,000 of 300,000") {
		t.Errorf("the loss on purpose is not told: %q", all)
	}
}
