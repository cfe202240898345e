package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// RuntimeDir is a folder in memory, private to the sandbox, with a path short enough for sockets
// (AF_UNIX ends at 108 bytes). It stands in a root folder of the sandbox's own, so that it covers
// nothing of the host.
const RuntimeDir = "/.ctload"

// hostRoot is the path of the host's root folder while the sandbox's own is made.
const hostRoot = "/.host"

// Arrange gives a process that [Command] started the files of a sandbox: those of the host,
// read-only, and an empty [RuntimeDir], which ends with the process.
func Arrange() error { return arrange(nil) }

// arrange gives the new namespaces what every sandbox needs: a root folder of its own that shows
// the host's files, read-only but for the folders in writable, by path; its own /proc; an empty
// RuntimeDir; a /sys that shows its own network where the host allows that.
func arrange(writable map[string]*os.File) error {
	folder, err := os.Getwd()
	if err != nil {
		folder = "/" // it was removed
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the sandbox's mounts private: %w", err)
	}
	// The place covers nothing in the end: the new root leaves it.
	const at = "/proc"
	if err := unix.Mount("tmpfs", at, "tmpfs", noDevices, "mode=0755"); err != nil {
		return fmt.Errorf("mount the sandbox's root folder: %w", err)
	}
	if err := os.Mkdir(at+hostRoot, 0o700); err != nil {
		return fmt.Errorf("make the sandbox's root folder: %w", err)
	}
	if err := unix.PivotRoot(at, at+hostRoot); err != nil {
		return fmt.Errorf("enter the sandbox's root folder: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := showHost(); err != nil {
		return fmt.Errorf("show the host's files in the sandbox: %w", err)
	}
	if err := ownFolders(); err != nil {
		return err
	}
	for path, opened := range writable {
		if err := letWrite(path, opened); err != nil {
			return err
		}
	}
	err = unix.Unmount(hostRoot, unix.MNT_DETACH)
	err = errors.Join(err, os.Remove(hostRoot), readOnly("/", false))
	if err != nil {
		return fmt.Errorf("finish the sandbox's root folder: %w", err)
	}
	if os.Chdir(folder) != nil {
		return os.Chdir("/")
	}
	return nil
}

const noDevices = unix.MS_NOSUID | unix.MS_NODEV

// showHost shows each entry of the host's root folder in the sandbox's, read-only, but for /proc
// and /sys.
func showHost() error {
	entries, err := os.ReadDir(hostRoot)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := filepath.Join(hostRoot, entry.Name()), filepath.Join("/", entry.Name())
		if to == "/proc" || to == "/sys" || to == hostRoot || to == RuntimeDir {
			continue
		}
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				return err
			}
			continue
		case entry.IsDir():
			err = os.Mkdir(to, 0o755)
		default:
			err = os.WriteFile(to, nil, 0o644)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
		if err := readOnly(to, true); err != nil {
			return fmt.Errorf("make %s read-only: %w", to, err)
		}
	}
	return nil
}

// ownFolders mounts what is the sandbox's own.
func ownFolders() error {
	for _, folder := range []string{"/proc", "/sys", RuntimeDir} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("make the sandbox's %s: %w", folder, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", noDevices|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the sandbox's /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", RuntimeDir, "tmpfs", noDevices, "mode=0700"); err != nil {
		return fmt.Errorf("mount the sandbox's %s: %w", RuntimeDir, err)
	}
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return fmt.Errorf("make the sandbox's temporary folder: %w", err)
	}
	// Containers refuse this mount; only libvirt's own networks need it.
	if unix.Mount("sysfs", "/sys", "sysfs", noDevices|unix.MS_NOEXEC, "") != nil {
		err := unix.Mount(hostRoot+"/sys", "/sys", "", unix.MS_BIND|unix.MS_REC, "")
		if err == nil {
			err = readOnly("/sys", true)
		}
		if err != nil {
			return fmt.Errorf("mount the sandbox's /sys: %w", err)
		}
	}
	return quietBridges()
}

// temporary is the folder for temporary files of programs in the sandbox.
const temporary = RuntimeDir + "/tmp"

// letWrite makes a folder of the host writable in the sandbox, at its own path. The caller has
// opened it; what is at the path now must be the same.
func letWrite(path string, opened *os.File) error {
	fail := func(err error) error {
		return fmt.Errorf("let the sandbox write into %s: %w", path, err)
	}
	// The descriptor is of the caller's mount namespace, from which the kernel mounts nothing here.
	here, err := os.OpenFile(hostRoot+path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err)
	}
	defer here.Close()
	was, err := opened.Stat()
	is, hereErr := here.Stat()
	switch {
	case err != nil || hereErr != nil:
		return fail(errors.Join(err, hereErr))
	case !os.SameFile(was, is):
		return fail(errors.New("it was replaced by another folder meanwhile"))
	}
	from := fmt.Sprintf("/proc/self/fd/%d", here.Fd())
	if err := unix.Mount(from, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fail(err)
	}
	return nil
}

// readOnly makes the mount at a path read-only, and with below those under it.
func readOnly(path string, below bool) error {
	flags := uint(0)
	if below {
		flags = unix.AT_RECURSIVE
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &attributes)
	if errors.Is(err, unix.ENOSYS) { // before 5.12
		return readOnlyEach(path, below)
	}
	return err
}

// readOnlyEach does what readOnly does, mount by mount.
func readOnlyEach(path string, below bool) error {
	paths := []string{path}
	if below {
		mounts, err := procfs.GetMounts()
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if strings.HasPrefix(m.MountPoint, path+"/") {
				paths = append(paths, m.MountPoint)
			}
		}
	}
	for _, at := range paths {
		var stat unix.Statfs_t
		if err := unix.Statfs(at, &stat); err != nil {
			continue // another mount covers it, or its server is gone: it cannot be written either
		}
		// The kernel refuses to take back what a more privileged namespace has set.
		kept := uintptr(stat.Flags) & (unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC |
			unix.ST_NOATIME | unix.ST_NODIRATIME)
		if stat.Flags&unix.ST_RELATIME != 0 {
			kept |= unix.MS_RELATIME
		}
		const again = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
		if err := unix.Mount("", at, "", again|kept, ""); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}
