// Package metrics gives the samples of trials the names under which Prometheus knows them: those of
// node_exporter's conntrack collector where it has the figure, so that alert rules and dashboards
// for real hosts work on a trial, and ctload_ names for the others.
package metrics

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/results"
)

// Metric is a figure of a sample under the name of a time series.
type Metric struct {
	Name    string
	Help    string
	Counter bool // it only rises, and its name ends in _total
	Value   func(*results.Sample) int64
}

// Names of node_exporter that rules use.
const (
	Entries = "node_nf_conntrack_entries"
	Limit   = "node_nf_conntrack_entries_limit"
	// Drop and EarlyDrop are gauges there, though the kernel only raises them.
	Drop      = "node_nf_conntrack_stat_drop"
	EarlyDrop = "node_nf_conntrack_stat_early_drop"
)

// collected are the counters that node_exporter reads of /proc/net/stat/nf_conntrack and a sample
// has; ignore and insert are missing.
var collected = map[string]string{
	"found":          "searched entries which were successful",
	"invalid":        "packets seen which can not be tracked",
	"insert_failed":  "entries for which list insertion was attempted but failed",
	"drop":           "packets dropped due to conntrack failure",
	"early_drop":     "dropped conntrack entries to make room for new ones",
	"search_restart": "conntrack table lookups which had to be restarted due to hashtable resizes",
}

// List returns all metrics, in the order in which they are written.
func List() []Metric {
	list := []Metric{
		{Name: Entries, Help: "entries in the connection tracking table",
			Value: func(s *results.Sample) int64 { return s.Count }},
		{Name: Limit, Help: "nf_conntrack_max",
			Value: func(s *results.Sample) int64 { return s.Max }},
	}
	for _, c := range results.ConntrackCounters {
		m := Metric{Value: func(s *results.Sample) int64 { return *c.In(&s.Counters) }}
		if help, ok := collected[c.Name]; ok {
			m.Name, m.Help = "node_nf_conntrack_stat_"+c.Name, help
		} else {
			m.Name, m.Counter = "ctload_nf_conntrack_stat_"+c.Name+"_total", true
			m.Help = c.Name + " of the kernel's statistics of connection tracking"
		}
		list = append(list, m)
	}
	return append(list,
		Metric{Name: "ctload_nf_conntrack_buckets", Help: "buckets of the hash",
			Value: func(s *results.Sample) int64 { return s.Buckets }},
		Metric{Name: "ctload_log_lines_total", Help: "lines that the table is full, in the log",
			Counter: true, Value: func(s *results.Sample) int64 { return s.LogLines }},
		Metric{Name: "ctload_load_offered_total", Help: "attempts that the load began",
			Counter: true, Value: func(s *results.Sample) int64 { return s.Offered }},
		Metric{Name: "ctload_load_done_total", Help: "attempts of the load that succeeded",
			Counter: true, Value: func(s *results.Sample) int64 { return s.Done }},
		Metric{Name: "ctload_load_failed_total", Help: "attempts of the load that failed",
			Counter: true, Value: func(s *results.Sample) int64 { return s.Failed }},
	)
}

// Series are the samples of a trial.
type Series struct {
	Run, Scenario string
	Trial         int
	Zero          time.Time // second 0 of the samples
	Samples       []results.Sample
}

// Labels returns the labels of the trial's time series.
func (s Series) Labels() string {
	return fmt.Sprintf(`run="%s",scenario="%s",trial="%d"`,
		escape(s.Run), escape(s.Scenario), s.Trial)
}

// escape escapes the value of a label.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(
		strings.ToValidUTF8(value, "\ufffd"))
}

// WriteNow writes the latest sample of each trial in Prometheus' text format, without a time: that
// of the scrape counts.
func WriteNow(w io.Writer, trials []Series) error {
	var b bytes.Buffer
	for _, m := range List() {
		m.head(&b, m.Name)
		for _, t := range trials {
			if n := len(t.Samples); n > 0 {
				fmt.Fprintf(&b, "%s{%s} %d\n", m.Name, t.Labels(), m.Value(&t.Samples[n-1]))
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteOpenMetrics writes all samples with their times, as OpenMetrics 1.0. promtool tsdb
// create-blocks-from openmetrics takes that.
func WriteOpenMetrics(w io.Writer, trials []Series) error {
	var b bytes.Buffer
	for _, m := range List() {
		m.head(&b, strings.TrimSuffix(m.Name, "_total"))
		for _, t := range trials {
			labels, last := t.Labels(), int64(0)
			for i := range t.Samples {
				s := &t.Samples[i]
				millis := t.at(s.Seconds).UnixMilli() // a point of Prometheus has no finer time
				if millis <= last {
					continue
				}
				last = millis
				fmt.Fprintf(&b, "%s{%s} %d %s\n", m.Name, labels, m.Value(s),
					strconv.FormatFloat(float64(millis)/1000, 'f', 3, 64))
			}
		}
	}
	b.WriteString("# EOF\n")
	_, err := w.Write(b.Bytes())
	return err
}

// at returns the time of day at a second of the samples.
func (s Series) at(seconds float64) time.Time {
	return s.Zero.Add(time.Duration(seconds * float64(time.Second)))
}

// head writes what comes before the points of a metric.
func (m Metric) head(b *bytes.Buffer, name string) {
	kind := "gauge"
	if m.Counter {
		kind = "counter"
	}
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, m.Help, name, kind)
}

// Every returns what scrapes at a fixed interval see, from the first sample on: the latest sample
// since the scrape before, or nil where there is none.
func (s Series) Every(interval time.Duration) []*results.Sample {
	if len(s.Samples) == 0 {
		return nil
	}
	var list []*results.Sample
	first, next := s.Samples[0].Seconds, 0
	last := s.Samples[len(s.Samples)-1].Seconds
	for n := 0; ; n++ {
		at := first + float64(n)*interval.Seconds()
		if at > last {
			return list
		}
		var seen *results.Sample
		for ; next < len(s.Samples) && s.Samples[next].Seconds <= at; next++ {
			seen = &s.Samples[next]
		}
		list = append(list, seen)
	}
}
