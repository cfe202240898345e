package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// process is one that carries a test's mark in its environment, in whatever namespace it lives, or
// one in the sandbox of such a process: a libvirt daemon starts machines with an environment of
// their own.
type process struct {
	pid     int
	command string
}

// marked returns the processes whose environment has mark, and all others of their sandboxes.
func marked(t *testing.T, mark string) []process {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	space := func(dir string) string { // of process ids
		link, _ := os.Readlink(filepath.Join(dir, "ns/pid"))
		return link
	}
	carries, sandboxes := map[string]bool{}, map[string]bool{}
	for _, dir := range dirs {
		environment, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && strings.Contains(string(environment), mark) {
			carries[dir], sandboxes[space(dir)] = true, true
		}
	}
	delete(sandboxes, space("/proc/self"))
	var list []process
	for _, dir := range dirs {
		if !carries[dir] && !sandboxes[space(dir)] {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		list = append(list, process{pid, strings.ReplaceAll(string(line), "\x00", " ")})
	}
	return list
}

// noneLeft fails when a process with mark does not end. Two seconds are usual; a busy host takes
// longer.
func noneLeft(t *testing.T, mark string) {
	t.Helper()
	if !hosttest.Poll(30*time.Second, func() bool { return len(marked(t, mark)) == 0 }) {
		t.Errorf("processes are left: %v", marked(t, mark))
	}
}

// links returns the names of the network links of this namespace.
func links(t *testing.T) map[string]bool {
	t.Helper()
	list, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, l := range list {
		names[l.Attrs().Name] = true
	}
	return names
}

// files returns everything below dir.
func files(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir && errors.Is(err, os.ErrNotExist) {
			return nil // the file disappeared during the walk
		}
		names[path] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// killRounds returns how often TestKillLeavesNothing kills.
func killRounds() int {
	if hosttest.Long() {
		return 100
	}
	return 25
}

// TestKillLeavesNothing kills ctload with SIGKILL at random moments, from its first steps to the
// middle of a load, and searches for leftovers once it has had the time to end: processes in any
// namespace (daemon, machine, agent: with the last one its namespaces end, and with those taps,
// bridges, sockets and files in memory), links in this namespace, files in the temporary folder and
// beside the caches.
func TestKillLeavesNothing(t *testing.T) {
	labtest.Need(t)
	path := experiment(t, fmt.Sprintf(small, 100_000))
	if o := ctload(t, 5*time.Minute, "scenarios", "validate", path); o.status != 0 {
		t.Fatal(o.stderr)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	temporary := t.TempDir()
	linksBefore, cacheBefore := links(t), files(t, filepath.Join(cache, "ctload"))
	shmBefore := files(t, "/dev/shm")

	ended := make([]time.Duration, killRounds())
	t.Run("rounds", func(t *testing.T) {
		for round := range ended {
			t.Run(strconv.Itoa(round), func(t *testing.T) {
				t.Parallel() // with other rounds, and with nothing else
				ended[round] = kill(t, path, fmt.Sprintf("CTLOAD_TEST=%s-%d.", temporary, round),
					temporary)
			})
		}
	})
	slices.Sort(ended)
	t.Logf("after a kill all had ended within %v at the median, %v at most",
		ended[len(ended)/2], ended[len(ended)-1])
	// A host that is sometimes busy prolongs some rounds, not most.
	if ended[len(ended)/2] > 2*time.Second {
		t.Error("two seconds are to be enough")
	}
	for name := range links(t) {
		if !linksBefore[name] {
			t.Errorf("link %s is left", name)
		}
	}
	for name := range files(t, temporary) {
		if name != temporary {
			t.Errorf("temporary file %s is left", name)
		}
	}
	for name := range files(t, "/dev/shm") {
		if !shmBefore[name] {
			t.Errorf("file %s is left", name)
		}
	}
	for name := range files(t, filepath.Join(cache, "ctload")) {
		// ctload keeps libvirt's facts about QEMU on purpose.
		if !cacheBefore[name] && !strings.Contains(name, "/libvirt") &&
			!strings.HasSuffix(name, "kvm-failed") {
			t.Errorf("file %s is left in the cache", name)
		}
	}
}

// kill runs the experiment of that path, kills ctload at a random moment, searches for its
// leftovers, and returns how long it took to end.
func kill(t *testing.T, path, mark, temporary string) time.Duration {
	t.Helper()
	cmd := command(t, "run", path, "--out", filepath.Join(t.TempDir(), "run"))
	cmd.Env = append(os.Environ(), mark, "TMPDIR="+temporary)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Most moments are in the first seconds, in which ctload makes the most.
	moment := min(time.Duration(rand.ExpFloat64()*float64(2*time.Second)), 12*time.Second)
	timer := time.NewTimer(moment)
	<-timer.C
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = cmd.Wait()
	t.Logf("killed after %v", moment)
	noneLeft(t, mark)
	took := time.Since(killed)
	for _, p := range marked(t, mark) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	return took
}
