package orchestrator

import (
	"context"
	"strings"
)

// CrossCheck holds the DUT's raw counters, read without the sampler, so that a reader of the run folder can
// check the one against the other. What the DUT does not have is left empty.
type CrossCheck struct {
	Stat  string `json:"proc_net_stat_nf_conntrack,omitempty"` // the file as it was
	Count string `json:"conntrack_C,omitempty"`                // what `conntrack -C` printed
}

// fileCrossCheck is the file of the trial's folder that holds the cross-checks: before the load, right
// before the last sample, and after that, when stray packets may have been counted.
const fileCrossCheck = "witness.json"

// crossCheck reads the file, and at the end of a trial also runs the tool: that loads a module, so that
// nothing may be read back after it.
func (t *trial) crossCheck(ctx context.Context, end bool) CrossCheck {
	var c CrossCheck
	agent := t.dut.Agent()
	if text, err := agent.ReadFile(ctx, "/proc/net/stat/nf_conntrack"); err == nil {
		c.Stat = text
	}
	if !end || c.Stat == "" {
		return c
	}
	if out, err := agent.Exec(ctx, "", "conntrack", "-C"); err == nil && out.Exit == 0 {
		c.Count = strings.TrimSpace(out.Stdout)
	}
	return c
}
