package vagrant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest"
)

// coverFolders gives the sandbox its own /run and /var/lib/libvirt/dnsmasq, where libvirt's helper
// for DHCP leases writes in spite of the daemon's settings; the host may lack them, and they are
// not the user's. A daemon in session mode reads the leases from the folder leases.
func coverFolders(leases string) error {
	const libvirt = "/var/lib/libvirt"
	covered := libvirt
	if _, err := os.Stat(libvirt); errors.Is(err, fs.ErrNotExist) {
		covered = filepath.Dir(libvirt)
	}
	for _, dir := range []string{"/run", covered} {
		if err := cover(dir); err != nil {
			return fmt.Errorf("cover %s in the sandbox: %w", dir, err)
		}
	}
	dnsmasq := filepath.Join(libvirt, "dnsmasq")
	err := os.MkdirAll(libvirt, 0o755)
	// A folder of the host is a mount now, which no link can replace.
	_ = unix.Unmount(dnsmasq, unix.MNT_DETACH)
	_ = os.Remove(dnsmasq)
	if err == nil {
		err = os.Symlink(leases, dnsmasq)
	}
	if err != nil {
		return fmt.Errorf("make a folder for leases in the sandbox: %w", err)
	}
	return nil
}

// cover mounts a folder in memory over dir with the same contents; new files stay in the sandbox.
func cover(dir string) error {
	below, err := os.Open(dir) // stays reachable through its descriptor
	if err != nil {
		return err
	}
	defer below.Close()
	entries, err := below.ReadDir(-1)
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from := fmt.Sprintf("/proc/self/fd/%d/%s", below.Fd(), entry.Name())
		to := filepath.Join(dir, entry.Name())
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			if target, err := os.Readlink(from); err == nil {
				_ = os.Symlink(target, to)
			}
			continue
		case entry.IsDir():
			err = os.Mkdir(to, 0o755)
		default:
			err = os.WriteFile(to, nil, 0o600)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
		// A link that fails is not missed: the lab needs only the user's home, if it is here.
		if err != nil {
			_ = os.Remove(to)
		}
	}
	return nil
}

// room, in bytes, is a lab's memory besides the box's disk: machine, snapshot, daemon and Vagrant.
const room = 1500 << 20

// fits returns an error unless the machine's disk fits into memory, where it leaves nothing.
func (b Box) fits() error {
	var size int64
	err := filepath.WalkDir(b.folder(), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the box %s: %w", b.Given, err)
	}
	available, err := memoryAvailable()
	if err != nil {
		return fmt.Errorf("ask for the host's memory: %w", err)
	}
	if need := size + room; available < need {
		return guest.Missing("a smaller box (--box "+BuildBox+"), or more memory",
			"the box %s needs %d MiB of memory for its disk and machine, and %d MiB are available",
			b.Given, need>>20, available>>20)
	}
	return nil
}

// memoryAvailable returns MemAvailable in bytes.
func memoryAvailable() (int64, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	memory, err := proc.Meminfo()
	if err != nil {
		return 0, err
	}
	if memory.MemAvailableBytes == nil {
		return 0, errors.New("/proc/meminfo does not tell what is available")
	}
	return int64(*memory.MemAvailableBytes), nil
}
