package samplers

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
)

// fakeKernelLog returns a kernel log whose records the test writes. A socket of packets keeps their
// borders, as the device does.
func fakeKernelLog(t *testing.T) (l *kernelLog, write func(sequence int, message string)) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX,
		unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pair[0]) })
	l = &kernelLog{fd: pair[1], buffer: make([]byte, 16<<10)}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	return l, func(sequence int, message string) {
		t.Helper()
		record := fmt.Appendf(nil, "4,%d,1000,-;%s\n", sequence, message)
		if _, err := unix.Write(pair[0], record); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelLog(t *testing.T) {
	l, write := fakeKernelLog(t)
	full := "nf_conntrack: nf_conntrack: table full, dropping packet"
	write(7, "BUG: of the past")
	write(8, full)
	if err := l.mark(); err != nil {
		t.Fatal(err)
	}
	write(12, full) // three were overwritten
	write(13, "Oops: 0000 [#1]")
	write(14, "eth0: link up")
	if err := l.drain(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(LogCounts{Lines: 1, Missed: 3, Bad: 1}, l.tally.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	lines := l.lines
	if len(lines) != 1 || lines[0].Kind != LineOops {
		t.Errorf("lines %+v", lines)
	}
	records, dropped, err := l.takeRecords()
	if err != nil || dropped != 0 {
		t.Errorf("%d dropped, %v", dropped, err)
	}
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprint(r.Sequence, " ", r.Message))
	}
	want := []string{"7 BUG: of the past", "8 " + full, "12 " + full, "13 Oops: 0000 [#1]",
		"14 eth0: link up"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if records, _, err := l.takeRecords(); err != nil || len(records) != 0 {
		t.Errorf("taken twice: %v, %v", records, err)
	}
}

func TestKernelLogIsBounded(t *testing.T) {
	l, write := fakeKernelLog(t)
	l.kept = make([]string, maxKeptRecords)
	for i := range maxKeptLines + 5 {
		write(i, "Call Trace:")
		if err := l.drain(); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.kept) != maxKeptRecords || l.dropped != maxKeptLines+5 ||
		len(l.lines) != maxKeptLines || l.tally.counts.Bad != maxKeptLines+5 {
		t.Errorf("%d kept, %d dropped, %d lines, %+v", len(l.kept), l.dropped, len(l.lines),
			l.tally.counts)
	}
}

func TestKernelLogRefusesNonsense(t *testing.T) {
	for name, read := range map[string]func(*kernelLog) error{"mark": (*kernelLog).mark,
		"drain": (*kernelLog).drain} {
		l, _ := fakeKernelLog(t)
		pair, err := unix.Socketpair(unix.AF_UNIX,
			unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(pair[0], []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
		l.fd, pair[1] = pair[1], l.fd
		if err := read(l); !errors.Is(err, errKmsg) {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(unix.Close(pair[0]), unix.Close(pair[1])); err != nil {
			t.Error(err)
		}
	}
}

// TestKernelLogOfThisMachine reads the real device from its oldest record.
func TestKernelLogOfThisMachine(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	records, _, err := s.TakeLog()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		hosttest.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if i > 0 && r.Sequence <= records[i-1].Sequence {
			t.Errorf("record %d after %d: %q", r.Sequence, records[i-1].Sequence, r.Message)
		}
	}
	if len(records) == 0 {
		t.Error("an empty log")
	}
	sample, err := s.Sample(t.Context())
	if err != nil || sample.Log == nil || sample.Log.Missed != 0 {
		t.Errorf("%+v, %v", sample.Log, err)
	}
}
