package labs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest"
)

// TestLimits names each limit that a lab would reach, with its cure.
func TestLimits(t *testing.T) {
	const plenty = 1 << 40
	group := func(limit, used string) map[string]string {
		return map[string]string{"pids.max": limit, "pids.current": used}
	}
	for _, tc := range []struct {
		name        string
		rlimits     map[int]uint64
		inner, root map[string]string // files of the control groups
		says, cure  string            // empty: no limit is reached
	}{
		{"none", nil, nil, nil, "", ""},
		{"no limit of the group", nil, group("max", "5000"), nil, "", ""},
		{"enough", nil, group("1000", "100"), group("2000", "900"), "", ""},
		{"files", map[int]uint64{unix.RLIMIT_NOFILE: 20}, nil, nil, "open files to 20",
			"ulimit -n 256"},
		{"addresses", map[int]uint64{unix.RLIMIT_AS: 1 << 30}, nil, nil,
			"address space to 1048576", "ulimit -v 8388608"},
		{"the group", nil, group("150", "100"), nil, "allows 150 processes and threads, 100",
			"--pids-limit"},
		{"a group above", nil, group("max", "3"), group("310", "300"), "allows 310", "TasksMax"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc, cgroups := t.TempDir(), t.TempDir()
			write := func(path, text string) {
				t.Helper()
				err := os.MkdirAll(filepath.Dir(path), 0o700)
				err = errors.Join(err, os.WriteFile(path, []byte(text+"\n"), 0o600))
				if err != nil {
					t.Fatal(err)
				}
			}
			write(filepath.Join(proc, "self/cgroup"), "0::/outer/inner")
			for name, text := range tc.inner {
				write(filepath.Join(cgroups, "outer/inner", name), text)
			}
			for name, text := range tc.root {
				write(filepath.Join(cgroups, "outer", name), text)
			}
			err := limitsOf(proc, cgroups, func(resource int) (uint64, error) {
				if limit, ok := tc.rlimits[resource]; ok {
					return limit, nil
				}
				return plenty, nil
			})
			missing, is := errors.AsType[*guest.MissingError](err)
			if is != (tc.says != "") || is && (!strings.Contains(missing.Error(), tc.says) ||
				!strings.Contains(missing.Fix, tc.cure)) {
				t.Errorf("got %v, want %q, fix: %q", err, tc.says, tc.cure)
			}
		})
	}
}

func TestThreadsOf(t *testing.T) {
	proc := t.TempDir()
	for pid, text := range map[string]string{
		"1": "Name:\tx\nUid:\t0\t0\t0\t0\nThreads:\t9\n",
		"2": "Name:\ty\nUid:\t1000\t1000\t1000\t1000\nThreads:\t3\n",
		"3": "Uid:\t1000\t0\t0\t0\nThreads:\t4\n", "self": "Uid:\t1000\nThreads:\t50\n",
	} {
		err := os.Mkdir(filepath.Join(proc, pid), 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(proc, pid, "status"), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := threadsOf(proc, 1000); n != 7 {
		t.Errorf("%d threads", n)
	}
}
