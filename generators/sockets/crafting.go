package sockets

import (
	"errors"
	"fmt"
	"os"
)

// ErrInitialNamespace refuses crafted packets where they could leave the machine.
var ErrInitialNamespace = errors.New("crafted packets are only made in a lab or in a network namespace made for them, and this is the initial one")

// MayCraft refuses raw packets where they could reach something else than a lab.
func MayCraft(inLab bool) error {
	if inLab {
		return nil
	}
	initial, err := initialNamespace()
	if err != nil {
		return err
	}
	if initial {
		return ErrInitialNamespace
	}
	return nil
}

// initialNamespace reports whether the calling thread is in the initial network namespace. The
// kernel registers those of its net.core settings that are not kept per namespace only there, so
// that a namespace made later has no netdev_budget (read in 4.19 to 6.18). Inode numbers do not
// tell: they were not fixed before 6.18, and PID 1's namespace is not the initial one in a container.
func initialNamespace() (bool, error) {
	_, err := os.Stat("/proc/sys/net/core/netdev_budget")
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		// Only an answer if /proc/sys is there at all.
		if _, err := os.Stat("/proc/sys/net/core/somaxconn"); err != nil {
			return false, fmt.Errorf("telling the initial network namespace from others: %w", err)
		}
		return false, nil
	}
	return false, fmt.Errorf("telling the initial network namespace from others: %w", err)
}
