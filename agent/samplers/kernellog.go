package samplers

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LogCounts counts lines of the kernel log since the last mark. The kernel limits "table full"
// lines to 10 in 5 seconds together with other messages, so Lines says that packets were dropped,
// never how many: that is the counter drop.
type LogCounts struct {
	Lines int64 `json:"lines"` // "table full, dropping packet"
	// Suppressed sums the "callbacks suppressed" lines after a table-full line since the mark.
	Suppressed int64 `json:"suppressed"`
	// Carried sums those that came before any: the kernel prints them with the next message,
	// however much later, so they count messages from before the mark.
	Carried int64 `json:"carried,omitempty"`
	Missed  int64 `json:"missed,omitempty"` // records overwritten before they were read
	Bad     int64 `json:"bad,omitempty"`    // lines that put the trial in doubt (see LineKind.Bad)
	Notes   int64 `json:"notes,omitempty"`  // lines about other limits (see LineKind.Note)
}

// LogLine is a record with its meaning.
type LogLine struct {
	Kind LineKind `json:"kind"`
	Record
}

// maxKeptRecords bounds the memory for records not taken yet: at most about 16 MiB.
const maxKeptRecords = 1 << 15

// maxKeptLines bounds the lines in one sample.
const maxKeptLines = 256

// logTally counts lines; it is pure.
type logTally struct {
	counts LogCounts
	next   uint64 // expected sequence number, when started
	begun  bool
}

// add counts one record and returns its kind.
func (t *logTally) add(r Record) LineKind {
	if t.begun && r.Sequence > t.next {
		t.counts.Missed += int64(r.Sequence - t.next)
	}
	t.next, t.begun = r.Sequence+1, true
	kind := classifyLine(r.Message)
	switch {
	case r.Facility != 0: // a process wrote it: it proves nothing about the kernel
		return ""
	case kind == LineTableFull:
		t.counts.Lines++
	case kind == LineSuppressed && t.counts.Lines > 0:
		t.counts.Suppressed += Suppressed(r.Message)
	case kind == LineSuppressed:
		t.counts.Carried += Suppressed(r.Message)
	case kind.Bad():
		t.counts.Bad++
	case kind.Note():
		t.counts.Notes++
	}
	return kind
}

// kernelLog reads /dev/kmsg without waiting. It needs CAP_SYSLOG where kernel.dmesg_restrict is 1.
type kernelLog struct {
	fd      int
	buffer  []byte
	tally   logTally
	lines   []LogLine // with a meaning, not taken yet
	kept    []string  // raw records, not taken yet
	dropped int64     // records not kept, for lack of memory
}

func openKernelLog(path string) (*kernelLog, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the kernel log %s: %w", path, err)
	}
	// One record at a time; the kernel's own bound is 8 KiB (PRINTK_MESSAGE_MAX).
	return &kernelLog{fd: fd, buffer: make([]byte, 16<<10)}, nil
}

// mark restarts the counts with later records. It keeps earlier records, but does not classify
// them: under emulation, classifying a boot's lines takes longer than a sample may.
func (l *kernelLog) mark() error {
	err := l.readAll(func(record string) error {
		sequence, err := kmsgSequence(record)
		l.tally.next, l.tally.begun = sequence+1, true
		return err
	})
	l.tally.counts, l.lines = LogCounts{}, nil
	return err
}

// drain reads and counts the records since the last call.
func (l *kernelLog) drain() error {
	return l.readAll(func(record string) error {
		r, err := parseKmsg(record)
		if err != nil {
			return err
		}
		// The count says all about table-full lines; an endless oops may have many others.
		kind := l.tally.add(r)
		if kind != "" && kind != LineTableFull && len(l.lines) < maxKeptLines {
			l.lines = append(l.lines, LogLine{Kind: kind, Record: r})
		}
		return nil
	})
}

// readAll calls each for every new record and keeps it. One call reads at most as many records as
// can be kept, so that a kernel that logs without end does not hold the sampler.
func (l *kernelLog) readAll(each func(record string) error) error {
	for range maxKeptRecords {
		n, err := unix.Read(l.fd, l.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EPIPE):
			continue // EPIPE: records were overwritten; the gap in the sequence counts them
		case err != nil:
			return fmt.Errorf("read the kernel log: %w", err)
		case n == 0:
			return nil
		}
		record := string(l.buffer[:n])
		if len(l.kept) < maxKeptRecords {
			l.kept = append(l.kept, record)
		} else {
			l.dropped++
		}
		if err := each(record); err != nil {
			return fmt.Errorf("read the kernel log: %w", err)
		}
	}
	return nil
}

// takeRecords returns the records and forgets them.
func (l *kernelLog) takeRecords() (records []Record, dropped int64, err error) {
	records = make([]Record, 0, len(l.kept))
	for _, raw := range l.kept {
		record, err := parseKmsg(raw)
		if err != nil {
			return nil, 0, err
		}
		records = append(records, record)
	}
	dropped = l.dropped
	l.kept, l.dropped = nil, 0
	return records, dropped, nil
}

func (l *kernelLog) close() error {
	if err := unix.Close(l.fd); err != nil {
		return fmt.Errorf("close the kernel log: %w", err)
	}
	return nil
}

// Record is one record of the kernel log, as a read of /dev/kmsg returns it (Linux 3.5,
// Documentation/ABI/testing/dev-kmsg).
type Record struct {
	Facility int    `json:"facility"` // 0 for the kernel's own messages
	Sequence uint64 `json:"seq"`      // increases by one; a gap means records overwritten unread
	// Time is since boot, on the kernel's printk clock: near CLOCK_MONOTONIC, but neither slewed
	// nor the same to the microsecond.
	Time    time.Duration `json:"time_ns"`
	Message string        `json:"message"` // without escapes; may hold any byte
}

var errKmsg = errors.New("not a record of the kernel log")

// parseKmsg reads one record: "6,339,5140900,-;NET: Registered protocol family 10\n", followed by
// lines that begin with a space and hold KEY=value pairs. More fields may follow the flags.
func parseKmsg(record string) (Record, error) {
	prefix, text, ok := strings.Cut(record, ";")
	if !ok {
		return Record{}, fmt.Errorf("%w: no semicolon in %.60q", errKmsg, record)
	}
	fields := strings.Split(prefix, ",")
	if len(fields) < 3 {
		return Record{}, fmt.Errorf("%w: %d fields in %.60q", errKmsg, len(fields), record)
	}
	priority, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil {
		return Record{}, fmt.Errorf("%w: priority: %w", errKmsg, err)
	}
	sequence, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Record{}, fmt.Errorf("%w: sequence: %w", errKmsg, err)
	}
	microseconds, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || microseconds < 0 || microseconds > int64(1<<63-1)/int64(time.Microsecond) {
		return Record{}, fmt.Errorf("%w: time %.40q", errKmsg, fields[2])
	}
	message, _, _ := strings.Cut(text, "\n")
	return Record{
		Facility: int(priority >> 3),
		Sequence: sequence,
		Time:     time.Duration(microseconds) * time.Microsecond,
		Message:  unescapeKmsg(message),
	}, nil
}

// kmsgSequence returns the sequence number of a record, which suffices for one that is skipped.
func kmsgSequence(record string) (uint64, error) {
	_, rest, ok := strings.Cut(record, ",")
	if !ok {
		return 0, fmt.Errorf("%w: no comma in %.60q", errKmsg, record)
	}
	number, _, _ := strings.Cut(rest, ",")
	sequence, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: sequence: %w", errKmsg, err)
	}
	return sequence, nil
}

// unescapeKmsg undoes the kernel's \xNN for control characters and the backslash itself.
func unescapeKmsg(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// LineKind is the meaning of a line of the kernel log for a trial.
type LineKind string

// The kinds of lines. The empty kind is everything else.
const (
	LineTableFull  LineKind = "table-full" // a packet was dropped because the table is full
	LineSuppressed LineKind = "suppressed" // lines that net_ratelimit suppressed
	LinePanic      LineKind = "panic"
	LineOops       LineKind = "oops"
	LineBug        LineKind = "bug"
	LineOOM        LineKind = "oom"
	LineAllocation LineKind = "allocation-failure"
	LineLockup     LineKind = "lockup"
	LineHungTask   LineKind = "hung-task"
	LineStall      LineKind = "rcu-stall"
	LineWarning    LineKind = "warning"
	LineCallTrace  LineKind = "call-trace"
	LineSYNFlood   LineKind = "syn-flood"          // a listener's SYN queue overflowed
	LineNeighbour  LineKind = "neighbour-overflow" // gc_thresh3 reached
	LineOrphans    LineKind = "orphaned-sockets"
	LineLostTime   LineKind = "lost-time" // the machine stood still: its host withheld the CPU
)

// Bad reports whether such a line puts the measurement in doubt: the kernel broke, or lacked memory
// or time.
func (k LineKind) Bad() bool {
	switch k {
	case LinePanic, LineOops, LineBug, LineOOM, LineAllocation,
		LineLockup, LineHungTask, LineStall, LineWarning, LineCallTrace:
		return true
	}
	return false
}

// Note reports whether such a line explains failures or delays that connection tracking did not
// cause.
func (k LineKind) Note() bool {
	return k == LineSYNFlood || k == LineNeighbour || k == LineOrphans || k == LineLostTime
}

// linePatterns are tried in turn; the first match names the line.
var linePatterns = []struct {
	kind    LineKind
	pattern *regexp.Regexp
}{
	// Newer kernels (2025) name the namespace.
	{LineTableFull, regexp.MustCompile(`table full( in netns \d+)?, dropping packet`)},
	{LineSuppressed, regexp.MustCompile(`net_ratelimit: \d+ callbacks suppressed`)},
	{"", regexp.MustCompile(`(?i)^(kernel )?command line: `)}, // it may hold any of the words below
	{LinePanic, regexp.MustCompile(`Kernel panic`)},
	{LineLockup, regexp.MustCompile(`(?i)soft lockup|hard lockup`)},
	{LineStall, regexp.MustCompile(`rcu.*(detected (expedited )?stall|kthread starved)`)},
	{LineHungTask, regexp.MustCompile(`task .* blocked for more than \d+ seconds`)},
	{LineOOM, regexp.MustCompile(`(?i)out of memory: kill|invoked oom-killer|^oom-kill:|` +
		`memory cgroup out of memory`)},
	{LineAllocation, regexp.MustCompile(`page allocation failure|` +
		`SLUB: Unable to allocate memory|^nf_conntrack: (table|hash).*alloc.*fail`)},
	{LineOops, regexp.MustCompile(`\bOops(:| -|\[)|general protection fault|double fault|` +
		`stack guard page was hit|Unable to handle kernel|^Internal error:`)},
	{LineBug, regexp.MustCompile(`\bBUG: |kernel BUG at |UBSAN: |KASAN: |KFENCE: |` +
		`INFO: possible (recursive|circular)|Bad page (state|map)`)},
	{LineWarning, regexp.MustCompile(`^WARNING: (CPU:|at )|^WARNING: .*\+0x[0-9a-f]+/0x`)},
	{LineCallTrace, regexp.MustCompile(`^\s*Call [Tt]race:`)},
	{LineSYNFlood, regexp.MustCompile(`Possible SYN flooding`)},
	{LineNeighbour, regexp.MustCompile(`neighbou?r table overflow`)},
	{LineOrphans, regexp.MustCompile(`too many orphaned sockets|TCP: out of memory`)},
	{LineLostTime, regexp.MustCompile(`^hrtimer: interrupt took \d+ ns|` +
		`^clocksource: .*(skew|unstable)|^sched: RT throttling`)},
}

// classifyLine returns the kind of a line of the kernel log.
func classifyLine(message string) LineKind {
	for _, p := range linePatterns {
		if p.pattern.MatchString(message) {
			return p.kind
		}
	}
	return ""
}

var suppressedCount = regexp.MustCompile(`net_ratelimit: (\d+) callbacks suppressed`)

// Suppressed returns the number in a line such as "net_ratelimit: 5182 callbacks suppressed", 0 for
// any other. It counts all messages of the network code under the common limit, not table-full
// lines alone.
func Suppressed(message string) int64 {
	match := suppressedCount.FindStringSubmatch(message)
	if match == nil {
		return 0
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
