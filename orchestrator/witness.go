package orchestrator

import (
	"context"
	"strings"
)

// Witness is what the DUT says of its table by other ways than ctload's own sampler, raw, so that a
// reader of the run folder can check the one against the other. A way that the DUT does not have is
// left empty.
type Witness struct {
	Stat  string `json:"proc_net_stat_nf_conntrack,omitempty"` // the file as it was
	Count string `json:"conntrack_C,omitempty"`                // what `conntrack -C` printed
}

// fileWitness is the file of the trial's folder that holds it: before the load, right before the last sample, and
// after that, when stray packets may have been counted on.
const fileWitness = "witness.json"

// hearWitness reads the file, and at the end of a trial also runs the tool: that loads a module, so that
// nothing may be read back after it.
func (t *trial) hearWitness(ctx context.Context, end bool) Witness {
	var w Witness
	agent := t.dut.Agent()
	if text, err := agent.ReadFile(ctx, "/proc/net/stat/nf_conntrack"); err == nil {
		w.Stat = text
	}
	if !end || w.Stat == "" {
		return w
	}
	if out, err := agent.Exec(ctx, "", "conntrack", "-C"); err == nil && out.Exit == 0 {
		w.Count = strings.TrimSpace(out.Stdout)
	}
	return w
}
