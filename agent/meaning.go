package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/results"
)

// CounterMeaning finds what the node's kernel counts in which counter of connection tracking. Call
// it last: on a kernel of the node's own it makes the hash small, to meet chains that are too long.
func (c *Client) CounterMeaning(ctx context.Context) (results.CounterMeaning, error) {
	return call[results.CounterMeaning](ctx, c, "CounterMeaning", nothing{})
}

// The hash and the table of the experiment: the kernel rounds the hash up to a page.
const (
	fewBuckets  = 512
	enoughSpace = 65536
)

func (s *server) counterMeaning(ctx context.Context, _ nothing) (results.CounterMeaning, error) {
	kernel := s.node.Kernel
	e := samplers.Experiment{Track: func(ctx context.Context) error { return track(ctx, kernel) }}
	if s.node.Own {
		err := errors.Join(kernel.SetBuckets(fewBuckets),
			kernel.WriteSysctl("net.netfilter.nf_conntrack_max", fmt.Sprint(enoughSpace)))
		if err != nil {
			return results.CounterMeaning{}, err
		}
		e.Chains = true
	}
	return e.Run(ctx)
}

// track loads a rule that makes the kernel track the namespace of the calling thread, with the
// first tool that can.
func track(ctx context.Context, kernel tuning.Kernel) error {
	const iptables = "*filter\n-A INPUT -m conntrack --ctstate INVALID -j ACCEPT\nCOMMIT\n"
	var errs []error
	for _, rules := range []tuning.Settings{
		{Rules: iptables, RulesBackend: tuning.BackendNFT},
		{Rules: iptables, RulesBackend: tuning.BackendLegacy},
		{NFT: "table ip ctload { chain c { type filter hook input priority 0; " +
			"ct state invalid accept; }; }"},
	} {
		err := kernel.LoadRules(ctx, rules, false)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
