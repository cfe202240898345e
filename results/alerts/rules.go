// Package alerts writes alert rules of Prometheus for a load and a table, and lets rules run over a
// measured trial: which of them fire, when, and how long before the first drop.
package alerts

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/metrics"
)

// Need is what rules for a host follow from.
type Need struct {
	Load string // in words
	Max  int64  // nf_conntrack_max of the host
	// Prediction is the load's effect on a table of that size.
	Prediction results.Prediction
	// Lead is how long before the table is full the alert must fire.
	Lead time.Duration
}

// usualWait is how long a rule here waits before it fires, and seen how old a figure may be then: a
// scrape and an evaluation, at the usual 15 s each.
const (
	usualWait = time.Minute
	seen      = 30 * time.Second
)

// normal returns the share of the table that the load takes as planned; 1: it does not fit.
func (n Need) normal() float64 {
	if n.Prediction.Overflow > 0 || n.Prediction.SecondsToFull != nil {
		return 1
	}
	return min(1, float64(max(n.Prediction.Peak, n.Prediction.PeakHigh))/float64(n.Max))
}

// threshold returns the share of the table above which a rule fires, how long the rule waits, and
// the time from there until the table is full, while no entry expires: entries come at the load's
// rate beside those that are planned. That time is n.Lead where the table has room for it, else
// what it has room for.
func (n Need) threshold() (share float64, wait, lead time.Duration) {
	least, most := 0.1, 0.95
	if normal := n.normal(); normal < 1 {
		// At least a quarter of the room that is left, so that the load as planned is no alert.
		least = normal + (1-normal)/4
		most = max(most, least)
	}
	rate := n.Prediction.Rate
	if rate == 0 {
		return max(0.75, least), usualWait, 0
	}
	needed := rate * (n.Lead + usualWait + seen).Seconds() / float64(n.Max)
	share = math.Floor(100*min(most, max(least, 1-needed))) / 100
	full := time.Duration(float64(time.Second) * (1 - share) * float64(n.Max) / rate)
	if full > 4*usualWait { // a short lead has no time for it
		wait = usualWait
	}
	return share, wait, max(0, full-wait-seen)
}

// Rules returns the rules as a file of Prometheus.
func Rules(n Need) string {
	share, wait, lead := n.threshold()
	p := n.Prediction
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Alert rules for %s on a table of %s, by ctload plan --alerts.", n.Load,
		results.Entries(n.Max))
	switch normal := n.normal(); {
	case normal < 1:
		line("# As planned the table has %s at most, %s of it.", results.Entries(p.Peak),
			results.Percent(normal))
	case p.SecondsToFull != nil:
		line("# This load fills the table in %s s; a larger table avoids that.",
			results.Figure(*p.SecondsToFull))
	default:
		line("# The table does not hold this load; a larger one would.")
	}
	fires := "how fast it fills is not known"
	if p.Rate > 0 {
		fires = fmt.Sprintf("at %s new entries per second it is full %s later",
			results.Figure(p.Rate), round(lead))
		if lead == 0 {
			fires = fmt.Sprintf("at %s new entries per second it is full before a scrape tells",
				results.Figure(p.Rate))
		}
		if lead < n.Lead && n.normal() < 1 {
			room := float64(max(p.Peak, p.PeakHigh)) + p.Rate*(n.Lead+usualWait+seen).Seconds()*4/3
			line("# The table has no room for a warning %s ahead: that takes a max of %s.",
				round(n.Lead), results.Count(int64(room)))
		}
	}
	const filled = metrics.Entries + " / " + metrics.Limit
	line("groups:\n- name: conntrack\n  rules:")
	rule(line, "ConntrackTableFilling", fmt.Sprintf("%s > %.2f", filled, share), wait, "warning",
		"the conntrack table of {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
		fires)
	window := min(10*time.Minute, max(2*time.Minute, n.Lead/2))
	least := min(0.5, share)
	if normal := n.normal(); normal < 1 {
		least = min(share, normal*1.1)
	}
	rule(line, "ConntrackTableFullSoon",
		fmt.Sprintf("predict_linear(%s[%s], %.0f) > %s and %s > %.2f", metrics.Entries,
			round(window), n.Lead.Seconds(), metrics.Limit, filled, least), wait, "critical",
		"the conntrack table of {{ $labels.instance }} is full within "+round(n.Lead),
		"it has more entries than planned, and gains them at a rate that fills it")
	rule(line, "ConntrackRefusing",
		fmt.Sprintf("increase(%s[2m]) > 0 or increase(%s[2m]) > 0", metrics.Drop,
			metrics.EarlyDrop), 0, "critical",
		"the kernel of {{ $labels.instance }} refuses or evicts connections",
		"the conntrack table is full, or was: new connections fail")
	rule(line, "ConntrackLimitBelowPlan", fmt.Sprintf("%s < %d", metrics.Limit, n.Max), wait,
		"warning", "nf_conntrack_max of {{ $labels.instance }} is {{ $value }}",
		fmt.Sprintf("planned is %d: a sysctl that came before the module is lost after a reboot",
			n.Max))
	return b.String()
}

// rule writes one rule.
func rule(
	line func(string, ...any), name, expr string, wait time.Duration,
	severity, summary, text string,
) {
	line("  - alert: %s\n    expr: %s", name, expr)
	if wait > 0 {
		line("    for: %s", round(wait))
	}
	line("    labels: {severity: %s}\n    annotations:\n      summary: %q\n      description: %q",
		severity, summary, text)
}

// round words a time as Prometheus takes it, in whole seconds.
func round(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", int64(d.Seconds()))
}
