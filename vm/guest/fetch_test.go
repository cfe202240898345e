package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
)

// TestStoreTriesEachArchive falls back on the next archive where one fails.
func TestStoreTriesEachArchive(t *testing.T) {
	newFakeApt(t)
	dir := t.TempDir()
	s := &slot{dir: dir, name: testKernel, key: "debian-bookworm"}
	bad := archive{"http://bad.example/debian bookworm main"}
	good := archive{"http://good.example/debian bookworm main"}
	debian := &distros[0]
	k, err := s.fetchFirst(t.Context(), []archive{bad, good}, debian)
	if err != nil || k.Release != "6.1.1-test" {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := s.fetchFirst(t.Context(), []archive{bad, bad}, debian); err == nil {
		t.Error("no error from two archives that fail")
	}
}

// TestFetchStalls stops an apt that runs without any progress.
func TestFetchStalls(t *testing.T) {
	fake := newFakeApt(t)
	fake.trouble("hang")
	a, err := newApt(t.TempDir(), &distros[0], archive{"http://good.example/debian bookworm main"},
		func(float64) {})
	if err != nil {
		t.Fatal(err)
	}
	for a.stall = time.Second; ; a.stall *= 2 {
		err := a.update(t.Context())
		if err == nil || err.Error() != fmt.Sprintf("apt-get: no progress for %v", a.stall) {
			t.Fatalf("error %v", err)
		}
		if _, err := os.Stat(filepath.Join(fake.dir, "hanging")); err == nil {
			break
		} // else this host took so long to start it
	}
	if !gone(fake.hanging()) {
		t.Error("apt-get goes on")
	}
}

// TestFetchWithoutRoom refuses to begin a fetch that would fill the disk.
func TestFetchWithoutRoom(t *testing.T) {
	if err := room("/proc"); !errors.Is(err, syscall.ENOSPC) { // a file system of no size
		t.Errorf("error %v", err)
	}
	if err := room(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestKernelParts(t *testing.T) {
	for depends, want := range map[string][]string{
		"linux-image-6.1.0-50-cloud (= 6.1.176-1)": {"linux-image-6.1.0-50-cloud"},
		"kmod, linux-base (>= 4.3~), linux-modules-6.8.0, wireless-regdb | crda": {
			"linux-modules-6.8.0",
		},
		"linux-base-7.2 (= 1), linux-binary-7.2:amd64 (= 1) | x, linux-modules-7.2": {
			"linux-base-7.2", "linux-binary-7.2", "linux-modules-7.2",
		},
		"": nil, ",, |": nil,
	} {
		if got := kernelParts(depends); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", depends, got, want)
		}
	}
}

// TestFetchFromTheArchive fetches a real kernel through this host's apt.
func TestFetchFromTheArchive(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs the network")
	}
	s := &Store{Dir: t.TempDir()}
	percents := map[string]float64{}
	s.Progress = func(p Progress) { percents[p.Stage] = max(percents[p.Stage], p.Percent) }
	start := time.Now()
	k, err := s.Kernel(t.Context(), testKernel)
	if missing, ok := errors.AsType[*MissingError](err); ok {
		hosttest.Skip(t, "%v", missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, package %s, in %v", k.Release, k.Version, time.Since(start).Round(time.Millisecond))
	if !strings.HasPrefix(k.Release, "6.1.") || !strings.HasPrefix(k.Version, "6.1.") {
		t.Errorf("kernel %+v is not bookworm's", k)
	}
	if percents["download"] != 100 || percents["unpack"] != 100 {
		t.Errorf("progress %v", percents)
	}
	c, err := readCatalogue(k.ModuleDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.match(slices.Concat(defaultBoot(), DefaultCarry())); err != nil {
		t.Error(err)
	}
	cached, err := s.Kernel(t.Context(), testKernel)
	if err != nil || cached != k {
		t.Errorf("from the store: %+v, %v", cached, err)
	}
}

// TestFetchWithoutNetwork lets the real apt ask a mirror that does not answer.
func TestFetchWithoutNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("apt tries for seconds")
	}
	hosttest.Need(t, "apt-get")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CTLOAD_DEBIAN_MIRROR", "http://"+l.Addr().String()+"/debian")
	if err := l.Close(); err != nil { // no process listens from now on
		t.Fatal(err)
	}
	s := &Store{Dir: t.TempDir()}
	start := time.Now()
	_, err = s.Kernel(t.Context(), testKernel)
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || !strings.Contains(err.Error(), "Could not connect") ||
		!strings.Contains(missing.Fix, "network") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > aptStall {
		t.Errorf("it took %v to see that nobody answers", took)
	}
	wantNames(t, s, "debian-bookworm.lock")
}
