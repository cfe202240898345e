package shared

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// TestCallsThatAreInterrupted interrupts calls to a real daemon. A call that ends soon after takes
// nothing from the others. A call that does not end costs its connection, and the lab still removes
// what it made.
func TestCallsThatAreInterrupted(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "interrupted")
	dut := vm.Machine{Name: "dut", VCPUs: 1, MemoryBytes: 128 << 20}
	lab := opened(t, Options{URIs: []string{h.URI()}, DUT: dut, Accelerator: libvirt.TCG})
	host := lab.hosts[0]
	if _, err := host.network(t.Context(), "client", 0); err != nil {
		t.Fatal(err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	under := make(chan struct{})
	go func() {
		<-under
		interrupt()
	}()
	answer, err := libvirt.Within(ctx, host.virt, func() (string, error) {
		close(under)
		<-ctx.Done()
		<-time.After(200 * time.Millisecond)
		return "late", nil
	})
	if answer != "late" || err != nil {
		t.Errorf("a call that ended after it was interrupted: %q, %v", answer, err)
	}
	if err := host.alive(t.Context()); err != nil {
		t.Errorf("the connection was given up: %v", err)
	}
	asked := false
	_, err = libvirt.Within(ctx, host.virt, func() (string, error) {
		asked = true
		return "", nil
	})
	if !errors.Is(err, context.Canceled) || asked {
		t.Errorf("a call after an interrupt: %v, and it was made: %v", err, asked)
	}

	host.virt.Linger = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	began := time.Now()
	_, err = libvirt.Within(ctx, host.virt, func() (string, error) { <-never; return "", nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that never ends: %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to give it up", took)
	}
	select {
	case <-host.virt.Disconnected():
	case <-time.After(30 * time.Second):
		t.Error("its connection is still there")
	}
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	if left := lab.options.Journal.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	removers := NewRemovers()
	t.Cleanup(func() { _ = removers.Close() })
	gone := journal.Entry{Kind: journal.Network, Where: h.URI(), Name: "ctload-opened-client"}
	if there, err := removers.Exists(t.Context(), journal.Run{}, gone); there || err != nil {
		t.Errorf("the network is there: %v (%v)", there, err)
	}
}
