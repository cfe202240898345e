package samplers

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// LogCounts counts lines of the kernel log since the last mark. The kernel limits "table full"
// lines to 10 in 5 seconds together with other messages, so Lines says that packets were dropped,
// never how many: that is the counter drop.
type LogCounts struct {
	Lines int64 `json:"lines"` // "table full, dropping packet"
	// Suppressed sums the "callbacks suppressed" lines that followed a table-full line after the
	// mark.
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

// mark restarts the counts; later records belong to the trial.
func (t *logTally) mark() { t.counts = LogCounts{} }

// skip passes a record without counting it.
func (t *logTally) skip(sequence uint64) { t.next, t.begun = sequence+1, true }

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
		l.tally.skip(sequence)
		return err
	})
	l.tally.mark()
	l.lines = nil
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
		if kind := l.tally.add(r); kind != "" && kind != LineTableFull && len(l.lines) < maxKeptLines {
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

// takeLines returns the lines with a meaning and forgets them.
func (l *kernelLog) takeLines() []LogLine {
	lines := l.lines
	l.lines = nil
	return lines
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
