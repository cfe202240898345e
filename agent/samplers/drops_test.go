package samplers

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestWatchDrops makes the kernel drop datagrams at a closed port and by a rule, and finds the
// reasons. It runs in the initial user namespace, the only one that may load programs, but in its
// own network namespace.
func TestWatchDrops(t *testing.T) {
	if os.Getuid() != 0 {
		hosttest.Skip(t, "loading a program is for root")
	}
	type outcome struct {
		system  *System
		refused error // WatchDrops
		err     error
	}
	outcomes := make(chan outcome)
	// The goroutine does not unlock its thread, so the thread ends with it, and the namespace with
	// the thread.
	go func() {
		var o outcome
		o.system, o.refused, o.err = dropDatagrams(t.Context())
		outcomes <- o
	}()
	o := <-outcomes
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.refused != nil {
		hosttest.Skip(t, "%v", o.refused)
	}
	// The rest of the machine may drop some too.
	if n := o.system.Drops["NO_SOCKET"]; n < fewestDrops || n > 1000 {
		t.Errorf("datagrams to a closed port: %v, problems %q", o.system.Drops, o.system.Problems)
	}
	t.Logf("drops: %v", o.system.Drops)
}

// fewestDrops is the least number of datagrams that the kernel drops.
const fewestDrops = 25

// dropDatagrams sends datagrams to a closed port in a network namespace of its own.
func dropDatagrams(ctx context.Context) (system *System, refused, err error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, nil, err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, nil, err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, nil, err
	}
	s, err := New(Options{KernelLog: "none"})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.WatchDrops(); err != nil {
		return nil, err, nil
	}
	conn, err := net.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	_, _ = conn.Write([]byte("before the mark"))
	s.Mark()
	for range 50 {
		// Every other one only reports the closed port of the one before.
		_, _ = conn.Write([]byte("x"))
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		sample, err := s.FullSample(ctx)
		if err != nil || sample.System.Drops["NO_SOCKET"] >= fewestDrops ||
			time.Now().After(deadline) {
			return sample.System, nil, err
		}
	}
}

func TestWatchDropsIsRefused(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.WatchDrops(); err == nil {
			t.Error("a program was loaded in a user namespace")
		}
		if sample, err := s.FullSample(t.Context()); err != nil || sample.System.Drops != nil {
			t.Errorf("%v, %v", sample.System, err)
		}
	})
}

func TestDropsSince(t *testing.T) {
	got := dropsSince(map[string]int64{"A": 5, "B": 2, "C": 1}, map[string]int64{"A": 3, "B": 2})
	if diff := cmp.Diff(map[string]int64{"A": 2, "C": 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := dropsSince(nil, nil); got != nil {
		t.Errorf("%v", got)
	}
}
