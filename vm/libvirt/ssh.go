package libvirt

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm"
)

// sshDialer reaches a daemon as virsh does: ssh with the user's own configuration, and there
// libvirt's helper, or nc where the URI names a socket or the helper is missing. ssh ends with the
// connection, also when this program is killed, since its standard streams close.
type sshDialer struct {
	uri *url.URL

	last atomic.Pointer[saying] // of the latest ssh
}

// saying keeps the text that a program wrote to its standard error.
type saying struct {
	vm.Tail
	ended chan struct{}
}

// target returns ssh's options and the host, without a command.
func (d *sshDialer) target() []string {
	interval := fmt.Sprintf("ServerAliveInterval=%d", int(DeadAfter/time.Second))
	return append([]string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
		"-o", interval, "-o", "ServerAliveCountMax=2"}, d.whom()...)
}

// whom returns the options that the user's URI stands for, and the host.
func (d *sshDialer) whom() []string {
	query := d.uri.Query()
	var args []string
	if port := d.uri.Port(); port != "" {
		args = append(args, "-p", port)
	}
	if user := d.uri.User.Username(); user != "" {
		args = append(args, "-l", user)
	}
	if key := query.Get("keyfile"); key != "" {
		args = append(args, "-i", key, "-o", "IdentitiesOnly=yes")
	}
	if known := query.Get("known_hosts"); known != "" {
		args = append(args, "-o", "UserKnownHostsFile="+known)
	}
	if query.Get("no_verify") == "1" {
		args = append(args, "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
	}
	return append(args, "--", d.uri.Hostname())
}

// helper returns the command that runs on the other side.
func (d *sshDialer) helper() string {
	if path := d.uri.Query().Get("socket"); path != "" {
		return "nc -U " + Quote(path)
	}
	return "if command -v virt-ssh-helper >/dev/null; then exec virt-ssh-helper qemu:///system; " +
		"else exec nc -U " + systemSocket + "; fi"
}

// Dial implements [socket.Dialer].
func (d *sshDialer) Dial() (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ssh"), os.NewFile(uintptr(fds[1]), "ssh")
	defer theirs.Close()
	defer ours.Close()
	said := &saying{ended: make(chan struct{})}
	cmd := exec.Command("ssh", append(d.target(), "sh -c "+Quote(d.helper()))...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ctrl-C reaches this program alone
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start ssh: %w", err), conn.Close())
	}
	go func() {
		_ = cmd.Wait() // its standard error holds the reason
		close(said.ended)
	}()
	d.last.Store(said)
	return conn, nil
}

// said returns the text that the latest ssh wrote to its standard error before it ended.
func (d *sshDialer) said() string {
	last := d.last.Load()
	if last == nil {
		return ""
	}
	select {
	case <-last.ended:
	case <-time.After(time.Second): // the connection is gone, and ssh ends soon
	}
	return last.String()
}

// Quote makes text one word of a shell.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
