package results

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

const smallDisk = "CTLOAD_TEST_SMALL_DISK"

// TestFolderDiskFull: on a disk that runs full, saving fails with a clear error, earlier files stay
// whole, and no temporary file is left. The test runs itself again in a mount namespace with a disk
// of 64 KiB.
func TestFolderDiskFull(t *testing.T) {
	dir := os.Getenv(smallDisk)
	if dir == "" {
		inMountNamespace(t)
		return
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	f, err := Create(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	small := &Run{Schema: SchemaVersion, Experiment: "small"}
	if err := f.Save(small); err != nil {
		t.Fatal(err)
	}
	tf, err := f.CreateTrial("a", 1)
	if err != nil {
		t.Fatal(err)
	}

	err = f.Save(&Run{Schema: SchemaVersion, Summary: strings.Repeat("x", 128<<10)})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("saving: %v", err)
	}
	if run, err := f.Load(); err != nil || run.Experiment != "small" {
		t.Errorf("what was saved before: %+v, %v", run, err)
	}

	lines, err := tf.Samples()
	if err != nil {
		t.Fatal(err)
	}
	written := 0
	for written = range 10000 {
		if err = lines.Append(Sample{Seconds: float64(written)}); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("sampling: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "run", fileRun)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lines.Append(Sample{Seconds: 1e6}), lines.Close()); err != nil {
		t.Error(err)
	}
	samples, err := readLines[Sample](tf, FileSamples)
	if err != nil || len(samples) != written+1 || samples[written].Seconds != 1e6 {
		t.Errorf("read %d samples of %d: %v", len(samples), written+1, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "run"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func inMountNamespace(t *testing.T) {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) ||
		errors.Is(err, syscall.ENOSPC) {
		hosttest.Skip(t, "no user namespace here: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
