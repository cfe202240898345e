package link

import (
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/actions"
)

func TestConditionsValidate(t *testing.T) {
	for _, c := range []struct {
		conditions Conditions
		want       string // in the error; empty: none
	}{
		{Conditions{Loss: 0.02}, ""},
		{Conditions{Loss: 1.5}, "loss 1.5: a share lies between 0 and 1"},
		{Conditions{Corrupt: -1}, "corrupt -1"},
		{Conditions{Delay: time.Millisecond, Jitter: time.Second}, "before it was sent"},
		{Conditions{Reorder: 0.1}, "reorder needs a delay"},
		{Conditions{Reorder: 0.1, Delay: time.Millisecond}, ""},
		{Conditions{Delay: time.Hour}, "not between 0 and 1m0s"},
		{Conditions{Rate: 3}, "rate 3"},
		{Conditions{}, "no condition is given"},
		{Conditions{Direction: actions.To}, "no condition is given"},
		{Conditions{Loss: 1, Direction: "up"}, `direction "up"`},
		{Conditions{Down: true, Direction: actions.To}, "in both directions"},
		{Conditions{Down: true}, ""},
	} {
		err := c.conditions.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.conditions, err, c.want)
		}
	}
}

// TestSplit checks that Split gives netem each direction's conditions, and that merge restores
// them.
func TestSplit(t *testing.T) {
	for _, c := range []struct {
		conditions Conditions
		words      string
	}{
		{Conditions{Loss: 0.05, Delay: 50 * time.Millisecond}, "loss 5%, delay 50ms"},
		{Conditions{Duplicate: 0.5, Direction: actions.From}, "duplicate 50%, from the node alone"},
		{Conditions{Rate: 8000, Direction: actions.To}, "rate 8000bit/s, towards the node alone"},
	} {
		to, from := c.conditions.Split()
		if back := merge(to, from); back != c.conditions {
			t.Errorf("%+v comes back as %+v", c.conditions, back)
		}
		if got := c.conditions.String(); got != c.words {
			t.Errorf("%+v: %q, want %q", c.conditions, got, c.words)
		}
		netem := netemOf(to)
		told := netem.Loss == toShare(c.conditions.Loss) &&
			netem.Latency == uint32(c.conditions.Delay/tick)
		if c.conditions.Holds(actions.To) && !told {
			t.Errorf("%+v: netem is told %+v", c.conditions, netem)
		}
	}
	to, from := Conditions{Partitioned: true}.Split()
	if to.Loss != 1 || from.Loss != 1 {
		t.Errorf("a partition loses %v and %v", to.Loss, from.Loss)
	}
	if got := fromShare(toShare(1)); got != 1 {
		t.Errorf("all is %v", got)
	}
	if name := ifbName("veth12345.0"); len(name) > 15 || !strings.HasSuffix(name, "12345.0") {
		t.Errorf("the ifb of veth12345.0 is %q", name)
	}
}
