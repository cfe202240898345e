// Package replay makes an experiment from a capture: a load that fills the table of a lab as the
// captured one was filled, with the host's settings and rules, and beside it each change that the
// explanation ranks.
package replay

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/scenarios"
)

// Options say how the experiment differs from the host.
type Options struct {
	// Name is the experiment's.
	Name string
	// Scale divides the rates, the held connections, max and the hash; 1 or 0: the host's size.
	Scale float64
	// Faster divides timeouts and lives and multiplies the rates; 1 or 0: the host's time.
	Faster float64
}

// asCaptured is the scenario without a change.
const asCaptured = "as-captured"

// Experiment makes an experiment that fills a table as that of the capture.
func Experiment(c *capture.Capture, o Options) (scenarios.Draft, error) {
	traffic, err := explain.FindTraffic(c)
	if err != nil {
		return scenarios.Draft{}, err
	}
	m := &maker{
		c: c, o: o, traffic: traffic, x: explain.Explain(c, explain.Options{}),
		scale: max(1, o.Scale), faster: max(1, o.Faster),
	}
	m.draft.Name = o.Name
	m.draft.Summary = fmt.Sprintf("%d of %d entries captured", m.x.Sample.Entries,
		max(m.x.Sample.Whole, int64(m.x.Sample.Entries)))
	if traffic.Assumed {
		m.note("nothing shows which part of the table was listed: the listing is taken for all " +
			"of it. nf_conntrack_count would tell")
	}
	m.choose()
	m.dut()
	m.workload()
	m.scenarios()
	m.explainScale()
	m.draft.Notes = m.notes
	return m.draft, nil
}

// maker makes an experiment.
type maker struct {
	c       *capture.Capture
	o       Options
	traffic *explain.Traffic
	x       *explain.Explanation
	draft   scenarios.Draft
	notes   []string
	// scale and faster are the factors that the experiment reaches: the hash has whole pages.
	scale, faster float64
	streams       []explain.Stream  // those that are replayed
	heavy         map[string]string // nodes of heavy sources, by address
	length        float64           // of the load, in seconds
	living        float64           // entries that the workload holds in its steady state
}

func (m *maker) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// family returns the one address family of the experiment: that of most entries.
func (m *maker) family() scenarios.Family {
	if m.traffic.IPv6 {
		return scenarios.IPv6
	}
	return scenarios.IPv4
}

// hashPage is the number of buckets that the kernel allocates at once.
const hashPage = 512

// dut takes over the host: its kernel, size, settings and rules.
func (m *maker) dut() {
	d := &m.draft.DUT
	d.NAT = scenarios.NoNAT
	version, err := kernels.Parse(m.c.Kernel)
	if err != nil {
		version = kernels.Named(scenarios.DefaultKernel)
		m.note("the kernel is unknown: %s stands for it", scenarios.DefaultKernel)
	}
	d.Kernel = kernels.Closest(version)
	if m.c.Kernel != "" {
		m.note("the host's kernel is %s; %s (%s) is the closest one. A file of the host's own "+
			"kernel may stand there: kernel: ./vmlinuz-%s", m.c.Kernel, d.Kernel,
			kernels.Named(d.Kernel), m.c.Kernel)
	}
	const mostCPUs = 4
	d.VCPUs = min(max(m.c.CPUs, 1), mostCPUs)
	limit, buckets := m.c.Sizes.Max, m.c.Sizes.Buckets
	if buckets != nil && *buckets > 0 && m.scale > 1 {
		scaled := kernels.RoundBuckets(int64(float64(*buckets)/m.scale), hashPage)
		m.scale = float64(*buckets) / float64(max(scaled, hashPage))
		m.scale = max(1, m.scale)
	}
	entries := float64(m.x.Sample.Entries) * max(1, m.x.Sample.Factor)
	if limit != nil && *limit > 0 {
		scaled := m.scaled(float64(*limit))
		m.set(kernels.KeyMax, fmt.Sprint(scaled), false)
		entries = max(entries, float64(*limit))
	} else {
		m.note("nf_conntrack_max is unknown: the kernel's own is it")
	}
	if buckets != nil && *buckets > 0 {
		d.Buckets = scenarios.Count(m.scaled(float64(*buckets)))
	}
	const base, entryBytes, step = 384 << 20, 512, 128 << 20
	need := base + entries/m.scale*entryBytes
	d.Memory = scenarios.Size(math.Ceil(need/step) * step)
	m.settings(kernels.Named(d.Kernel))
	m.rules()
}

// scaled returns a number of entries in the size of the experiment.
func (m *maker) scaled(n float64) int64 { return max(1, int64(math.Round(n/m.scale))) }

// ownDefaults are settings of connection tracking that are no timeouts, with what every kernel has
// by itself.
var ownDefaults = map[string]string{
	"acct": "0", "timestamp": "0", "tcp_loose": "1", "tcp_be_liberal": "0", "tcp_max_retrans": "3",
	"tcp_ignore_invalid_rst": "0",
}

// settings takes over the settings that differ from the kernel's own.
func (m *maker) settings(version kernels.Version) {
	own := kernels.Timeouts(version)
	short := ""
	for _, key := range slices.Sorted(maps.Keys(m.c.Settings)) {
		value := strings.TrimSpace(m.c.Settings[key])
		name, ours := strings.CutPrefix(key, kernels.Prefix)
		if !ours || !slices.Contains(kernels.Settings, name) {
			continue
		}
		if strings.Contains(name, "timeout") {
			seconds := m.timeout(key)
			if was, ok := own[key]; (!ok || was == seconds) && m.faster == 1 || seconds == 0 {
				continue
			}
			if seconds*int64(m.faster) != int64(m.fullTimeout(key)) && m.faster > 1 {
				short = key
			}
			m.set(key, fmt.Sprint(seconds), own[key] == 0)
			continue
		}
		if was, ok := ownDefaults[name]; ok && was != value {
			m.set(key, value, true)
		}
	}
	if m.faster == 1 {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(own)) { // those that the capture does not show
		if _, shown := m.c.Settings[key]; !shown {
			m.set(key, fmt.Sprint(m.timeout(key)), false)
		}
	}
	if short != "" {
		m.note("timeouts are whole seconds: %s is not divided exactly",
			strings.TrimPrefix(short, kernels.Prefix))
	}
}

func (m *maker) set(key, value string, optional bool) {
	m.draft.DUT.Sysctl = append(m.draft.DUT.Sysctl,
		scenarios.Setting{Key: key, Value: value, Optional: optional})
}

// fullTimeout returns a timeout of the host in seconds, as shown or as its kernel has it.
func (m *maker) fullTimeout(key string) float64 {
	var seconds float64
	if _, err := fmt.Sscan(m.c.Settings[key], &seconds); err == nil {
		return seconds
	}
	version, err := kernels.Parse(m.c.Kernel)
	if err != nil {
		version = kernels.Named(scenarios.DefaultKernel)
	}
	return float64(kernels.Timeouts(version)[key])
}

// timeout returns a timeout in the time of the experiment.
func (m *maker) timeout(key string) int64 {
	full := m.fullTimeout(key)
	if full == 0 {
		return 0
	}
	return max(1, int64(math.Round(full/m.faster)))
}

// explainScale says what the experiment's size does to its figures.
func (m *maker) explainScale() {
	if m.scale > 1 {
		m.note("scaled by %.4g: max, hash, rates and held connections are divided by it, so that "+
			"fill and max/hash are the host's. Fluctuation grows: the count of %.0f entries "+
			"varies by %.1f %%, that of the host's by %.1f %%", m.scale, m.living,
			100/math.Sqrt(max(1, m.living)), 100/math.Sqrt(max(1, m.living*m.scale)))
	}
	if m.faster > 1 {
		m.note("%g times as fast: timeouts and lives are divided, rates multiplied. The collector "+
			"of the kernel keeps its minute, so that relatively more expired entries stay: let "+
			"a run in the host's time decide", m.faster)
	}
}

// scenarios makes one of the host as it was, and one of each change that the explanation ranks.
func (m *maker) scenarios() {
	m.draft.Scenarios = append(m.draft.Scenarios, scenarios.Resolved{
		Name: asCaptured, Summary: "the host's own settings and rules", DUT: m.draft.DUT,
	})
	m.expectCaptured()
	seen := map[string]bool{asCaptured: true}
	for _, change := range m.x.Changes {
		r, ok := m.changed(change)
		if !ok || seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		m.draft.Scenarios = append(m.draft.Scenarios, r)
		m.expectChange(r.Name, change)
	}
}

// changed returns the scenario of a change.
func (m *maker) changed(c explain.Change) (scenarios.Resolved, bool) {
	r := scenarios.Resolved{DUT: m.draft.DUT}
	r.DUT.Sysctl = slices.Clone(r.DUT.Sysctl)
	set := func(key string, value int64) {
		r.DUT.Sysctl = slices.DeleteFunc(r.DUT.Sysctl, func(s scenarios.Setting) bool {
			return s.Key == key
		})
		r.DUT.Sysctl = append(r.DUT.Sysctl, scenarios.Setting{Key: key, Value: fmt.Sprint(value)})
	}
	name := strings.ReplaceAll(strings.TrimPrefix(c.What, kernels.Prefix), "_", "-")
	var value int64
	_, _ = fmt.Sscan(c.Value, &value) // 0 where a change has no number
	switch c.Kind {
	case explain.ChangeTimeout:
		short := max(1, int64(math.Round(float64(value)/m.faster)))
		if float64(short) > m.length {
			m.note("no scenario has %s %s: a load of %.0f s does not show it",
				strings.TrimPrefix(c.What, kernels.Prefix), c.Value, m.length)
			return r, false
		}
		r.Name = name + "-" + c.Value
		set(c.What, short)
		r.Summary = fmt.Sprintf("%s %s instead of %s", strings.TrimPrefix(c.What, kernels.Prefix),
			c.Value, c.From)
	case explain.ChangeMax:
		r.Name = "max-" + c.Value
		scaled := m.scaled(float64(value))
		set(kernels.KeyMax, scaled)
		const mostEntries, entryBytes = 1 << 22, 512
		if scaled > mostEntries {
			return r, false
		}
		r.DUT.Memory = max(r.DUT.Memory, scenarios.Size((scaled*entryBytes>>27+4)<<27))
		if r.DUT.Buckets > 0 {
			share := float64(value) / float64(*m.c.Sizes.Max)
			r.DUT.Buckets = scenarios.Count(math.Round(float64(r.DUT.Buckets) * share))
		}
		r.Summary = fmt.Sprintf("max %s instead of %s, and a hash in proportion", c.Value, c.From)
	case explain.ChangeNotrack:
		words := strings.Fields(c.What) // tcp 80
		r.Name = "notrack-" + strings.Join(words, "-")
		m.untrack(&r.DUT, words[0], words[1])
		r.Summary = c.What + " is not tracked, in both directions"
	case explain.ChangeDrop:
		node, ok := m.heavy[c.What]
		if !ok {
			return r, false
		}
		r.Name = "drop-" + node
		m.dropSource(&r.DUT, node)
		r.Summary = fmt.Sprintf("what comes from %s is dropped before it is tracked", c.What)
	default:
		m.note("no scenario limits %s to %s entries each: the lab's sources are others", c.What,
			c.Value)
		return r, false
	}
	if c.Leaves != nil {
		r.Summary += fmt.Sprintf(": %d entries by the arithmetic", *c.Leaves)
	}
	return r, true
}

// expect adds a threshold.
func (m *maker) expect(scenario, format string, args ...any) {
	m.draft.Thresholds = append(m.draft.Thresholds, scenarios.Threshold{
		Scenario: scenario, Expression: fmt.Sprintf(format, args...),
	})
}

// tolerance returns the share of a number of entries within which a steady count stays: a tenth, or
// four times its deviation.
func tolerance(n float64) float64 { return max(0.1, 4/math.Sqrt(max(1, n))) }

// expired returns how many expired entries the count holds at most beside the living ones: in a
// table with room the collector comes once a minute.
func (m *maker) expired() float64 {
	const collector = 60
	sum := 0.0
	for _, e := range m.draft.Workload {
		if e.Number() == 0 {
			sum += float64(e.Rate)
		}
	}
	return sum * min(collector, m.length)
}

// expectCaptured holds the replay to what was measured on the host.
func (m *maker) expectCaptured() {
	if m.traffic.Full {
		limit := m.scaled(float64(*m.c.Sizes.Max))
		m.expect(asCaptured, "conntrack.peak >= %d", limit*99/100)
		if m.traffic.Evicts {
			m.expect(asCaptured, "conntrack.early_drop > 0")
		} else {
			m.expect(asCaptured, "conntrack.drop > 0")
		}
		return
	}
	most := m.living
	for _, count := range m.c.Counts {
		most = max(most, float64(count.Entries)/m.scale)
	}
	share := tolerance(m.living)
	m.expect(asCaptured, "conntrack.peak >= %.0f", m.living*(1-share))
	m.expect(asCaptured, "conntrack.peak <= %.0f", most*(1+share)+m.expired()+10)
	m.expect(asCaptured, "conntrack.drop == 0")
}

// expectChange holds a change to what it would leave.
func (m *maker) expectChange(scenario string, c explain.Change) {
	if c.Leaves == nil || c.MoreRefused {
		return // what was refused is unknown, and comes on top
	}
	leaves := float64(*c.Leaves) / m.scale
	limit := math.Inf(1)
	if m.c.Sizes.Max != nil && *m.c.Sizes.Max > 0 {
		limit = float64(*m.c.Sizes.Max) / m.scale
	}
	if c.Kind == explain.ChangeMax {
		_, _ = fmt.Sscan(c.Value, &limit) // a number, by its kind
		limit /= m.scale
	} else {
		leaves = min(leaves, m.living)
	}
	most := leaves*(1+tolerance(leaves)) + m.expired() + 20
	switch {
	case most < limit:
		m.expect(scenario, "conntrack.peak <= %.0f", most)
		m.expect(scenario, "conntrack.drop == 0")
	case leaves*(1+tolerance(leaves)) < 0.9*limit: // the collector makes room above 95 %
		m.expect(scenario, "conntrack.drop == 0")
	case leaves*(1-tolerance(leaves)) > limit:
		m.expect(scenario, "conntrack.peak >= %.0f", limit*0.99)
	}
}

// number returns a rate with four digits.
func number(rate float64) scenarios.Rate {
	if rate <= 0 {
		return 0
	}
	digits := math.Pow(10, 3-math.Floor(math.Log10(rate)))
	digits = min(digits, 1e6)
	return scenarios.Rate(cmp.Or(math.Round(rate*digits)/digits, 1e-6))
}
