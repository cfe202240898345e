package samplers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Record is one record of the kernel log, as a read of /dev/kmsg returns it (Linux 3.5,
// Documentation/ABI/testing/dev-kmsg).
type Record struct {
	Level    int    `json:"level"`    // 0 emergency .. 7 debug
	Facility int    `json:"facility"` // 0 for the kernel's own messages
	Sequence uint64 `json:"seq"`      // increases by one; a gap means records overwritten unread
	// Time is since boot, on the kernel's printk clock: near CLOCK_MONOTONIC, but neither slewed
	// nor the same to the microsecond.
	Time    time.Duration `json:"time_ns"`
	Flags   string        `json:"flags,omitempty"`  // "-", or "c" for the fragment of a line
	Caller  string        `json:"caller,omitempty"` // thread or CPU, with CONFIG_PRINTK_CALLER
	Message string        `json:"message"`          // without escapes; may hold any byte
	Raw     string        `json:"raw,omitempty"`    // the record as read
}

var errKmsg = errors.New("not a record of the kernel log")

// parseKmsg reads one record: "6,339,5140900,-;NET: Registered protocol family 10\n", followed by
// lines that begin with a space and hold KEY=value pairs, which stay in Raw only.
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
	r := Record{
		Level:    int(priority & 7),
		Facility: int(priority >> 3),
		Sequence: sequence,
		Time:     time.Duration(microseconds) * time.Microsecond,
		Raw:      record,
	}
	if len(fields) > 3 {
		r.Flags = fields[3]
	}
	// Fields after the flags came later and more may come: parseKmsg reads only the known one.
	for _, field := range fields[min(4, len(fields)):] {
		if caller, ok := strings.CutPrefix(field, "caller="); ok {
			r.Caller = caller
		}
	}
	message, _, _ := strings.Cut(text, "\n")
	r.Message = unescapeKmsg(message)
	return r, nil
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
