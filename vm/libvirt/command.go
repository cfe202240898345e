package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Run runs a script of ip(8) as root on the host of the daemon and returns what it prints.
func (a *Endpoint) Run(ctx context.Context, script string) (string, error) {
	// In a shell of its own, so that the whole of it is root's.
	script = Quote("export PATH=$PATH:/usr/sbin:/sbin; set -e\n" + script)
	return a.Shell(ctx, "if [ $(id -u) = 0 ]; then exec sh -c "+script+"; else exec sudo -n sh -c "+script+"; fi")
}

// Shell runs a script on the host of the daemon, where that can be done: here, or through ssh.
func (a *Endpoint) Shell(ctx context.Context, script string) (string, error) {
	var cmd *exec.Cmd
	switch d := a.dialer.(type) {
	case *sshDialer:
		cmd = exec.CommandContext(ctx, "ssh", append(d.target(), "sh -c "+Quote(script))...)
	default:
		if !a.Here() {
			return "", errors.ErrUnsupported
		}
		cmd = exec.CommandContext(ctx, "sh", "-c", script)
	}
	cmd.WaitDelay = CloseLimit
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %w", strings.TrimSpace(string(exit.Stderr)), err)
	}
	return string(out), err
}
