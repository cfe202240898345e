package labs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest"
)

// What a lab takes of the user's limits. Where one is reached, the runtime of Go, or a daemon, ends
// with a dump that names no limit.
const (
	enoughThreads     = 200     // of ctload's processes, a daemon and two machines
	enoughDescriptors = 256     // open at once in one process
	enoughAddresses   = 8 << 30 // bytes of address space: Go reserves more than it uses
)

// checkLimits returns an error for a limit of this process that a lab would reach.
func checkLimits() error { return limitsOf("/proc", "/sys/fs/cgroup", getrlimit) }

func getrlimit(resource int) (soft uint64, err error) {
	var limit unix.Rlimit
	err = unix.Getrlimit(resource, &limit)
	return limit.Cur, err
}

// limitsOf checks the limits that rlimit tells, and those of the control groups below cgroups that
// the process is in, as proc tells.
func limitsOf(proc, cgroups string, rlimit func(int) (uint64, error)) error {
	for _, l := range []struct {
		resource int
		name     string
		need     uint64
		unit     uint64 // of ulimit
		flag     string
	}{
		{unix.RLIMIT_NOFILE, "open files", enoughDescriptors, 1, "-n"},
		{unix.RLIMIT_AS, "address space", enoughAddresses, 1 << 10, "-v"},
	} {
		limit, err := rlimit(l.resource)
		if err != nil {
			return fmt.Errorf("ask for the limit of %s: %w", l.name, err)
		}
		if limit < l.need {
			return guest.Missing(fmt.Sprintf("ulimit %s %d", l.flag, l.need/l.unit),
				"this shell limits %s to %d, and a lab takes %d (ulimit %s)",
				l.name, limit/l.unit, l.need/l.unit, l.flag)
		}
	}
	// The kernel does not hold root to the number of processes.
	if os.Getuid() != 0 {
		limit, err := rlimit(unix.RLIMIT_NPROC)
		if err != nil {
			return fmt.Errorf("ask for the limit of processes: %w", err)
		}
		if used := threadsOf(proc, os.Getuid()); limit < used+enoughThreads {
			return guest.Missing(fmt.Sprintf("ulimit -u %d", used+enoughThreads),
				"this shell limits your processes to %d, %d are there, and a lab takes %d more "+
					"(ulimit -u)", limit, used, enoughThreads)
		}
	}
	text, err := os.ReadFile(filepath.Join(proc, "self/cgroup"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ask for the control group: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified {
			continue
		}
		for group := filepath.Join(cgroups, path); strings.HasPrefix(group, cgroups); {
			limit, limited := number(filepath.Join(group, "pids.max"))
			used, known := number(filepath.Join(group, "pids.current"))
			if limited && known && limit < used+enoughThreads {
				return guest.Missing(
					fmt.Sprintf("raise it to %d (systemd: TasksMax=, Docker: --pids-limit)",
						used+enoughThreads),
					"the control group %s allows %d processes and threads, %d are there, and a "+
						"lab takes %d more (pids.max)", group, limit, used, enoughThreads)
			}
			if group == cgroups {
				break
			}
			group = filepath.Dir(group)
		}
	}
	return nil
}

// number reads a file with a number; "max" is none.
func number(file string) (n uint64, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// threadsOf counts the threads of a user.
func threadsOf(proc string, uid int) (n uint64) {
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "status"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		own, threads := false, uint64(0)
		for line := range bytes.Lines(text) {
			switch fields := strings.Fields(string(line)); {
			case len(fields) > 1 && fields[0] == "Uid:":
				own = fields[1] == strconv.Itoa(uid)
			case len(fields) > 1 && fields[0] == "Threads:":
				threads, _ = strconv.ParseUint(fields[1], 10, 64)
			}
		}
		if own {
			n += threads
		}
	}
	return n
}
