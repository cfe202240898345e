package guest

import (
	"os"
	"os/exec"
	"syscall"
)

// inRoot returns a command that runs in another root, as an ordinary user too: in a user namespace,
// with a network of its own.
func inRoot(root, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Path, cmd.Err = program, nil // looked up in the root, not here
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:      root,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}
