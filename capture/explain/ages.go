package explain

import (
	"cmp"
	"math"
	"slices"

	"github.com/ctload/ctload/capture"
)

// Course tells how the arrivals of a class have gone during its timeout, by the ages of its
// entries.
type Course string

// The courses. Ages of a steady stream lie evenly from 0 to the timeout.
const (
	Steady  Course = "steady"
	Rising  Course = "rising"  // more came lately
	Falling Course = "falling" // fewer came lately
	Evicted Course = "evicted" // entries go before their time
	Renewed Course = "renewed" // packets renew the entries: their ages tell when the last one came
)

// Age tells the seconds since the last packet of the entries of one protocol, state and kind.
type Age struct {
	Protocol string       `json:"protocol"`
	State    string       `json:"state,omitempty"`
	Kind     capture.Kind `json:"kind"`
	Entries  int          `json:"entries"` // those whose age is known
	Timeout  float64      `json:"timeout_s"`
	Ages     Spread       `json:"age_s"`
	Course   Course       `json:"course"`
}

// fewAges is below how many ages their spread tells no course.
const fewAges = 50

// ages tells the ages of the classes that have enough of them.
func (b *book) ages() (list []Age) {
	for _, c := range b.classes {
		if len(c.ages) < fewAges {
			continue
		}
		list = append(list, Age{
			Protocol: c.protocol, State: c.state, Kind: c.kind, Entries: len(c.ages),
			Timeout: c.timeout, Ages: *spread(slices.Clone(c.ages)), Course: c.course(),
		})
	}
	return list
}

// course compares the mean age with half the timeout: three times its standard error, which is
// timeout / sqrt(12 n) where ages spread evenly, is no chance.
func (c *class) course() Course {
	switch {
	case c.what() == "":
		return Renewed
	case c.truncated:
		return Evicted
	}
	deviation := (c.meanAge() - c.timeout/2) / (c.timeout / math.Sqrt(12*float64(len(c.ages))))
	switch {
	case deviation < -3:
		return Rising
	case deviation > 3:
		return Falling
	}
	return Steady
}

// Life tells how long the connections to one service stay established.
type Life struct {
	Service     string  `json:"service"`
	Established float64 `json:"established"` // of the whole table
	// EndPerSecond counts the connections that end each second, by the states that they leave.
	EndPerSecond float64 `json:"end_per_s,omitempty"`
	// Mean is the mean time in seconds that the connections which end are established: their
	// number / EndPerSecond (Little's law); 0 where none ends, or all of them are held.
	Mean float64 `json:"mean_s,omitempty"`
	// Held are the connections that stay: silent for more than a minute, or still there in a second
	// listing beyond what the mean explains.
	Held float64 `json:"held,omitempty"`
	// Stayed is the share that was still established in the second listing; nil without one.
	Stayed *float64 `json:"stayed,omitempty"`
}

// lives tells the lives of connections by service, most established ones first.
func (b *book) lives(t *Traffic) (list []Life) {
	services := map[string]*Life{}
	at := func(name string) *Life {
		if services[name] == nil {
			services[name] = &Life{Service: name}
		}
		return services[name]
	}
	for _, s := range t.Streams {
		if s.Protocol != "tcp" || len(s.Ports) != 1 {
			continue
		}
		name := capture.Entry{Original: capture.Tuple{DestinationPort: s.Ports[0]}}.Service()
		switch s.End {
		case EndClosed, EndReset, EndHalfClosed:
			l := at("tcp " + name)
			l.EndPerSecond += s.Rate
			l.Established += s.Rate * s.Life
		case EndHeld:
			l := at("tcp " + name)
			l.Held += s.Held
			l.Established += s.Held
		}
	}
	total, stayed := map[string]float64{}, map[string]float64{}
	for _, e := range b.c.Table.Entries {
		if e.Protocol != "tcp" || e.State != "ESTABLISHED" {
			continue
		}
		if e.Stays || e.Gone {
			total["tcp "+e.Service()]++
		}
		if e.Stays {
			stayed["tcp "+e.Service()]++
		}
	}
	for name, l := range services {
		if l.EndPerSecond > 0 {
			l.Mean = (l.Established - l.Held) / l.EndPerSecond
		}
		if n := total[name]; n > 0 && b.c.Table.Between > 0 {
			l.Stayed = new(stayed[name] / n)
		}
		if l.Established >= 1 {
			list = append(list, *l)
		}
	}
	slices.SortFunc(list, func(x, y Life) int {
		return cmp.Or(cmp.Compare(y.Established, x.Established), cmp.Compare(x.Service, y.Service))
	})
	return list[:min(len(list), topHolders)]
}

// Growth tells how the number of entries went during the watch.
type Growth struct {
	Seconds float64 `json:"seconds"`
	First   int64   `json:"first"`
	Last    int64   `json:"last"`
	Least   int64   `json:"least"`
	Most    int64   `json:"most"`
	// PerSecond is the slope of the straight line through the numbers, Error its standard error.
	PerSecond float64 `json:"per_s"`
	Error     float64 `json:"error_per_s"`
	// Living is the part of PerSecond that is no expired entries: these stay until the collector
	// comes, once a minute in a table with room, and grow as fast as entries end.
	Living float64 `json:"living_per_s"`
	// FullIn is the time in seconds until the table is full at the pace of Living; nil where that
	// is no growth beyond chance, or the table is full.
	FullIn *float64 `json:"full_in_s,omitempty"`
	// AtMax counts the readings at which the table was full: the growth is cut there.
	AtMax    int `json:"at_max,omitempty"`
	Readings int `json:"readings"`
}

// growth fits a straight line to the numbers of entries; nil without three of them.
func (b *book) growth() *Growth {
	counts := b.c.Counts
	const few = 3
	if len(counts) < few {
		return nil
	}
	last := counts[len(counts)-1]
	g := &Growth{
		Seconds: last.Seconds - counts[0].Seconds, First: counts[0].Entries, Last: last.Entries,
		Least: last.Entries, Most: last.Entries, Readings: len(counts),
	}
	n, sumT, sumN := float64(len(counts)), 0.0, 0.0
	limit := b.c.Sizes.Max
	for _, c := range counts {
		g.Least, g.Most = min(g.Least, c.Entries), max(g.Most, c.Entries)
		sumT += c.Seconds
		sumN += float64(c.Entries)
		if limit != nil && *limit > 0 && c.Entries >= *limit {
			g.AtMax++
		}
	}
	tt, tn := 0.0, 0.0
	for _, c := range counts {
		tt += (c.Seconds - sumT/n) * (c.Seconds - sumT/n)
		tn += (c.Seconds - sumT/n) * (float64(c.Entries) - sumN/n)
	}
	if tt == 0 {
		return nil
	}
	g.PerSecond = tn / tt
	residual := 0.0
	for _, c := range counts {
		d := float64(c.Entries) - sumN/n - g.PerSecond*(c.Seconds-sumT/n)
		residual += d * d
	}
	g.Error = math.Sqrt(residual / (n - 2) / tt)
	g.Living = g.PerSecond
	for _, r := range b.rates() {
		g.Living -= r.PerSecond
	}
	g.Living = max(0, g.Living)
	if limit != nil && g.AtMax == 0 && g.Living > 3*g.Error && *limit > last.Entries {
		g.FullIn = new(float64(*limit-last.Entries) / g.Living)
	}
	return g
}
