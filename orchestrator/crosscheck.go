package orchestrator

import (
	"context"
	"strings"
)

// CrossCheck holds the DUT's raw counters, read without the sampler, so that a reader of the run
// folder can check one against the other. A field is empty where the DUT lacks its source.
type CrossCheck struct {
	Stat  string `json:"proc_net_stat_nf_conntrack,omitempty"` // the file's text
	Count string `json:"conntrack_C,omitempty"`                // output of `conntrack -C`
}

// fileCrossCheck is the file of the trial's folder that holds the cross-checks: before the load,
// right before the last sample, and after that sample, when stray packets may have been counted.
const fileCrossCheck = "witness.json"

// crossCheck reads the file. At the end of a trial it also runs conntrack(8), which loads a module,
// so that nothing may be read back afterwards.
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
