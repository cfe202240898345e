package rules

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// This file has what rules make of the entries of a flow beside exempting it: timeouts of their
// own, and the ports that NAT may take.

// Translation describes the sources that a rule of source NAT may give.
type Translation struct {
	Addresses   int64
	First, Last uint16 // ports; 0: the kernel keeps the port's class, 1024 to 65535 for others
}

// classPorts are the ports that the kernel has for a source port from 1024 on where the rule names
// none (nf_nat_l4proto_unique_tuple).
const classPorts = 65536 - 1024

// Ports returns how many sources a translation can give towards one destination.
func (t Translation) Ports() int64 {
	ports := int64(classPorts)
	if t.Last > 0 {
		ports = int64(t.Last) - int64(t.First) + 1
	}
	return max(1, t.Addresses) * ports
}

// SourceNAT returns what the rule that surely translates the source of a flow makes of it, and the
// rule; nil without one, and where more than the texts and the flow decides.
func (s Ruleset) SourceNAT(f Flow) (Translation, *Rule) {
	rule := s.follow(f, true).source
	if rule == nil {
		return Translation{}, nil
	}
	return *rule.SourceNAT, rule
}

// Timeouts returns the timeouts, in seconds and by state, that a ct timeout policy of nft surely
// gives the entries of a flow; nil where none does. Rules are judged one by one. The kernel takes
// what the policy leaves out from the sysctls at the time when the policy was loaded
// (nft_ct_timeout_obj_init, Linux 4.19). Policies of nfct, which iptables names, are in no text.
func (s Ruleset) Timeouts(f Flow) (policy map[string]int64) {
	for t, r := range s.rules() {
		if r.timeout == "" || !t.handles(f.Family) {
			continue
		}
		w := walker{flow: f, hook: t.Chain(r.Chain).Hook}
		if w.fit(t, r) < Surely {
			continue
		}
		for _, o := range t.Objects {
			if o.Kind == "ct timeout" && o.Name == r.timeout && o.protocol == f.Protocol {
				policy = o.policy // the last one holds
			}
		}
	}
	return policy
}

// policyOf reads "policy = { time_wait : 1, close : 2s }".
func policyOf(words []token) map[string]int64 {
	policy := map[string]int64{}
	for i := 1; i+1 < len(words); i++ {
		if words[i].Text != ":" {
			continue
		}
		if seconds, ok := nftSeconds(words[i+1].Text); ok {
			policy[words[i-1].Text] = seconds
		}
	}
	return policy
}

// nftSeconds reads a time of nft: seconds alone, or as 1d2h3m4s.
func nftSeconds(text string) (seconds int64, ok bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseInt(days, 10, 32)
	if err != nil || rest == "" && !found {
		return 0, false
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, false
		}
	}
	return n*24*3600 + int64(d/time.Second), true
}

// translationOf reads what source NAT translates to: ADDRESS[-ADDRESS][:PORT[-PORT]].
func translationOf(to string) *Translation {
	t := &Translation{Addresses: 1}
	address, ports := to, ""
	// An address of IPv6 with a port is in brackets; a placeholder stands for an address.
	placeholder := strings.HasPrefix(to, "${")
	ported := strings.Count(to, ":") == 1 || strings.HasPrefix(to, "[") || placeholder
	if at := strings.LastIndexByte(to, ':'); at >= 0 && ported {
		address, ports = to[:at], to[at+1:]
	}
	address = strings.Trim(address, "[]")
	if first, last, ranged := strings.Cut(address, "-"); ranged && !placeholder {
		low, errLow := netip.ParseAddr(first)
		high, errHigh := netip.ParseAddr(last)
		for errLow == nil && errHigh == nil && low.Less(high) && t.Addresses < 1<<16 {
			low = low.Next()
			t.Addresses++
		}
	}
	t.First, t.Last = portsOf(ports)
	return t
}

// portsOf reads PORT or PORT-PORT; 0 where it is neither.
func portsOf(text string) (first, last uint16) {
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if errA != nil || errB != nil || a > b {
		return 0, 0
	}
	return uint16(a), uint16(b)
}
