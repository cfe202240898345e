package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// run runs a script of ip(8) as root on the host of the daemon and returns what it prints.
func (a *endpoint) run(ctx context.Context, script string) (string, error) {
	// In a shell of its own, so that the whole of it is root's.
	script = quote("export PATH=$PATH:/usr/sbin:/sbin; set -e\n" + script)
	return a.shell(ctx, "if [ $(id -u) = 0 ]; then exec sh -c "+script+"; else exec sudo -n sh -c "+script+"; fi")
}

// shell runs a script on the host of the daemon, where that can be done: here, or through ssh.
func (a *endpoint) shell(ctx context.Context, script string) (string, error) {
	var cmd *exec.Cmd
	switch d := a.dialer.(type) {
	case *sshDialer:
		cmd = exec.CommandContext(ctx, "ssh", append(d.target(), "sh -c "+quote(script))...)
	default:
		if !a.here() {
			return "", errors.ErrUnsupported
		}
		cmd = exec.CommandContext(ctx, "sh", "-c", script)
	}
	cmd.WaitDelay = closeLimit
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %w", strings.TrimSpace(string(exit.Stderr)), err)
	}
	return string(out), err
}

// filtered reports whether the host passes bridged frames to its own rules and its own conntrack, which then
// see the load and falsify it (bridge-nf-call-iptables; the default once br_netfilter is loaded). Where it
// cannot be asked it is not known, which counts as no.
func (h *hypervisor) filtered(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	out, err := h.at.shell(ctx, "cat /proc/sys/net/bridge/bridge-nf-call-iptables /proc/sys/net/bridge/bridge-nf-call-ip6tables 2>/dev/null || true")
	return err == nil && strings.Contains(out, "1")
}

// quietBridges is the command that mends it.
const quietBridges = "sudo sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"
