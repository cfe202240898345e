package generators

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/generators/latency"
)

// WriteAB writes a result in the lines of ApacheBench, for people and scripts that read ab's
// output. For http the labels are ab's own, and their meaning: complete requests are all that have
// ended, failed ones included, and rates and times per request count them. Other kinds have their
// unit in place of requests. Below ab's lines come figures that ab does not have: what succeeded,
// causes, lateness and the generator's own limits. Connect and total count from the intended start.
func WriteAB(w io.Writer, r Result) error {
	var b bytes.Buffer
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-23s "+format+"\n", append([]any{label + ":"}, args...)...)
	}
	unit, one := r.Unit, strings.TrimSuffix(r.Unit, "s")
	first := min(1, len(unit))
	cancelled := r.Causes[string(Cancelled)]
	complete := r.Completed + r.Failed - cancelled
	if r.Pages.Server != "" {
		line("Server Software", "%s", r.Pages.Server)
	}
	line("Server Hostname", "%s", r.Target)
	if r.Ports != "" {
		line("Server Port", "%s", r.Ports)
	}
	if r.Path != "" {
		fmt.Fprintln(&b)
		line("Document Path", "%s", r.Path)
		line("Document Length", "%d bytes", r.Pages.Length)
	}
	fmt.Fprintln(&b)
	if r.Concurrency > 0 {
		line("Concurrency Level", "%d", r.Concurrency)
	}
	line("Time taken for tests", "%.3f seconds", r.Elapsed.Seconds())
	line("Complete "+unit, "%d", complete)
	failed := r.Failed - cancelled
	line("Failed "+unit, "%d", failed)
	if failed > 0 && r.Kind == HTTP {
		fmt.Fprintf(&b, "   (%s)\n", failuresOfAB(r.Causes, failed))
	}
	if n := non2xx(r.Statuses); n > 0 {
		line("Non-2xx responses", "%d", n)
	}
	if r.Kind == HTTP && r.Pages.KeptAlive > 0 {
		line("Keep-Alive requests", "%d", r.Pages.KeptAlive)
	}
	line("Total transferred", "%d bytes", r.Received)
	if r.Kind == HTTP {
		line("HTML transferred", "%d bytes", r.Pages.Received)
	} else {
		line("Total body sent", "%d", r.Sent)
	}
	line(strings.ToUpper(unit[:first])+unit[first:]+" per second", "%.2f [#/sec] (mean)",
		perSecond(complete, r.Elapsed))
	if r.Concurrency > 0 && complete > 0 {
		each := r.Elapsed.Seconds() * 1000 / float64(complete)
		line("Time per "+one, "%.3f [ms] (mean)", each*float64(r.Concurrency))
		line("Time per "+one, "%.3f [ms] (mean, across all concurrent %s)", each, unit)
	}
	if s := r.Elapsed.Seconds(); s > 0 {
		line("Transfer rate", "%.2f [Kbytes/sec] received", float64(r.Received)/1024/s)
	}
	writeTimes(&b, r)
	writePercentiles(&b, r)
	writeOwn(&b, r, line)
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// failuresOfAB returns the failures under ab's names. ab counts an answer of another length than
// the first one as a failure; ctload does not.
func failuresOfAB(causes map[string]int64, failed int64) string {
	sum := func(of ...Cause) (n int64) {
		for _, cause := range of {
			n += causes[string(cause)]
		}
		return n
	}
	connect := sum(Refused, Unreachable, NoPort, NoDescriptor, NoBuffer, EPERM)
	receive := sum(Reset, ClosedEarly)
	return fmt.Sprintf("Connect: %d, Receive: %d, Length: 0, Exceptions: %d",
		connect, receive, failed-connect-receive)
}

// causeList returns a list such as "timeout: 3, refused: 1", in order of the causes' names.
func causeList(causes map[string]int64) string {
	var items []string
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		items = append(items, fmt.Sprintf("%s: %d", cause, causes[cause]))
	}
	return strings.Join(items, ", ")
}

func non2xx(statuses map[int]int64) int64 {
	var n int64
	for status, count := range statuses {
		if status < 200 || status > 299 {
			n += count
		}
	}
	return n
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// allAnswers returns the times of all requests that were answered, as ab has them, also those that
// count as failed.
func (r Result) allAnswers() *latency.Histogram { return mergeHistogram(r.Total, r.Pages.Refused) }

func writeTimes(b *bytes.Buffer, r Result) {
	total := r.allAnswers()
	if r.Connect.Count() == 0 && total.Count() == 0 {
		return
	}
	fmt.Fprintf(b, "\nConnection Times (ms)\n%-12s %9s %9s %9s %9s %9s\n",
		"", "min", "mean", "[+/-sd]", "median", "max")
	firstByte := r.FirstByte
	if r.Kind == HTTP {
		firstByte = nil // ab has Waiting, without the connect
	}
	for _, row := range []struct {
		name string
		h    *latency.Histogram
	}{
		{"Connect:", r.Connect}, {"Processing:", r.Pages.Processing},
		{"Waiting:", r.Pages.Waiting}, {"First byte:", firstByte}, {"Total:", total},
	} {
		if h := row.h; h.Count() > 0 {
			fmt.Fprintf(b, "%-12s %9.3f %9.3f %9.3f %9.3f %9.3f\n", row.name,
				ms(h.Min()), ms(h.Mean()), ms(h.StdDev()), ms(h.Quantile(.5)), ms(h.Max()))
		}
	}
}

func writePercentiles(b *bytes.Buffer, r Result) {
	total := r.allAnswers()
	if total.Count() == 0 {
		return
	}
	fmt.Fprintf(b, "\nPercentage of the %s served within a certain time (ms)\n", r.Unit)
	for _, p := range []int{50, 66, 75, 80, 90, 95, 98, 99} {
		fmt.Fprintf(b, " %3d%% %9.3f\n", p, ms(total.Quantile(float64(p)/100)))
	}
	one := strings.TrimSuffix(r.Unit, "s")
	fmt.Fprintf(b, " %3d%% %9.3f (longest %s)\n", 100, ms(total.Max()), one)
}

// writeOwn writes the generator's own figures: lateness, CPU, limits and notes.
func writeOwn(b *bytes.Buffer, r Result, line func(label, format string, args ...any)) {
	fmt.Fprintln(b)
	if r.Failed > 0 {
		line("Succeeded", "%d, %.2f [#/sec]", r.Completed, r.Rate())
		line("Failed by cause", "%s", causeList(r.Causes))
	}
	if n := r.Lateness.Count(); n > 0 {
		line("Offered rate", "%.2f [#/sec]", r.OfferedRate())
		line("Late sends", "%.3f %% (p99 %.3f ms)", 100*r.LateShare(), ms(r.Lateness.Quantile(.99)))
		line("Slots given up", "%d", r.Missed)
		if w := r.Widths; w.Bursts > 0 {
			line("Burst width", "mean %.3f ms, longest %.3f ms, of %d bursts",
				ms(w.Mean()), ms(w.Longest), w.Bursts)
		}
	}
	u := r.Usage
	line("Generator CPU", "%.2f s (%.0f %% of %d workers' time)",
		u.CPUSeconds, 100*u.Busy, u.Workers)
	if u.Retransmitted > 0 {
		line("Retransmitted", "%d segments, %d of them SYN", u.Retransmitted, u.SYNRetransmitted)
	}
	for _, limit := range r.Limits {
		line("Generator limit", "%s", limit)
	}
	for _, text := range r.Notes {
		line("Note", "%s", text)
	}
}
