package tuning

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// BoxRole is the name under which this program starts itself again to run a rule tool in a box: a
// file system that holds the tools alone, so that a script's include reads nothing of this host.
const BoxRole = "ctload-box"

// boxEnv names the folder of the box to an agent that shares its host's file system.
const boxEnv = "CTLOAD_BOX"

// BoxEnvironment returns the setting, as KEY=value, that makes an agent run rule tools in the box
// at a folder.
func BoxEnvironment(folder string) string { return boxEnv + "=" + folder }

// GivenBox returns the runner of the box that the environment names; nil, for [Exec], without one.
func GivenBox() Runner {
	if folder := os.Getenv(boxEnv); folder != "" {
		return Boxed(folder)
	}
	return nil
}

// Boxed returns a runner that runs those programs in a box that the box holds, and others as [Exec]
// does. It needs CAP_SYS_ADMIN and CAP_SYS_CHROOT.
func Boxed(folder string) Runner {
	return func(ctx context.Context, stdin, name string, args ...string) (string, error) {
		if _, err := os.Stat(filepath.Join(folder, "usr/sbin", name)); err != nil {
			return Exec(ctx, stdin, name, args...)
		}
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Args = append([]string{BoxRole, folder, name}, args...)
		cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		return execute(ctx, cmd, stdin, name, args)
	}
}

// RunBox enters the box and becomes the tool, in the process that a boxed runner started. It
// returns an exit status where that fails.
func RunBox() int {
	if len(os.Args) < 3 {
		return 2
	}
	if err := enterBox(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintf(os.Stderr, "run %s apart from the host's files: %v\n", os.Args[2], err)
	}
	return 3
}

func enterBox(folder, tool string, args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := mountProc(folder); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(folder), os.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	environment := []string{"PATH=/usr/sbin", "LC_ALL=C", "XTABLES_LOCKFILE=/run/xtables.lock"}
	return unix.Exec("/usr/sbin/"+tool, append([]string{tool}, args...), environment)
}

// mountProc gives the box two folders of /proc: legacy iptables reads the names of its tables in
// net, and sysctl writes the settings of the network namespace below sys. The kernel's other
// settings are the host's, and are read-only. Nothing else of /proc is in the box, since
// /proc/1/root has the host's files.
func mountProc(folder string) error {
	const readOnly = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID |
		unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		given, name string
		flags       uintptr // of a second call; 0: none
	}{
		{"/proc/self/net", "net", 0},
		{"/proc/sys", "sys", readOnly},
		{"/proc/sys/net", "sys/net", 0},
	} {
		at := filepath.Join(folder, "proc", m.name)
		if err := os.MkdirAll(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if unix.Mount(m.given, at, "", unix.MS_BIND, "") != nil {
			return nil // the kernel or the namespace forbids it: the tool says what it lacks
		}
		if m.flags == 0 {
			continue
		}
		if err := unix.Mount("", at, "", m.flags, ""); err != nil {
			return fmt.Errorf("make /proc/%s read-only: %w", m.name, err)
		}
	}
	return nil
}

// toolLimit bounds a rule tool: a script may include what never ends.
const toolLimit = 2 * time.Minute
