package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
)

// daemons lists the programs that serve the QEMU driver, with the names of their sockets: the
// monolithic daemon, then the modular one of distributions that ship only that.
var daemons = []struct{ program, socket string }{
	{"libvirtd", "libvirt-sock"},
	{"virtqemud", "virtqemud-sock"},
}

// daemonStart bounds the time until a daemon opens its socket.
const daemonStart = 20 * time.Second

// Daemon is a private libvirt daemon in session mode, with its own folders.
type Daemon struct {
	Socket string // path
	dir    string // of all its files

	cmd    *exec.Cmd
	exited chan struct{} // closed after the daemon has been waited for
	err    error         // how it ended; valid once exited is closed
}

// startDaemon starts a private daemon with its files below dir and returns when it listens. dir
// must be short (AF_UNIX paths end at 108 bytes), and the uid not 0, else the daemon would work in
// system mode. cache may outlive the daemon; it keeps what the daemon found out about the host's
// QEMU.
func startDaemon(ctx context.Context, dir, cache string) (*Daemon, error) {
	program, socket, err := findDaemon()
	if err != nil {
		return nil, err
	}
	name := filepath.Base(program)
	config := filepath.Join(dir, "config", "libvirt")
	ownCache := filepath.Join(dir, "cache")
	// facts is the folder of the daemon's findings about QEMU; its logs stay in its own folder.
	const facts = "libvirt/qemu/capabilities"
	for _, folder := range []string{config, filepath.Join(dir, "run"),
		filepath.Join(ownCache, filepath.Dir(facts))} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("make the libvirt daemon's folders: %w", err)
		}
	}
	// Where the cache cannot be written, the daemon asks QEMU anew.
	if kept := filepath.Join(cache, facts); os.MkdirAll(kept, 0o700) == nil &&
		unix.Access(kept, unix.W_OK) == nil {
		if err := os.Symlink(kept, filepath.Join(ownCache, facts)); err != nil {
			return nil, fmt.Errorf("make the libvirt daemon's folders: %w", err)
		}
	}
	d := &Daemon{
		dir:    dir,
		Socket: filepath.Join(dir, "run", "libvirt", socket),
		exited: make(chan struct{}),
	}
	log := filepath.Join(dir, "daemon.log")
	daemonConf := fmt.Sprintf("auth_unix_rw = \"none\"\nlog_outputs = \"2:file:%s\"\n", log)
	// The sandbox replaces the console's helper daemon, the security driver and the cgroups.
	const qemuConf = `stdio_handler = "file"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
bridge_helper = %q
`
	helper, self := filepath.Join(dir, link.HelperRole), "/proc/self/exe"
	if path, err := os.Executable(); err == nil {
		self = path
	}
	conf := filepath.Join(config, name+".conf")
	err = errors.Join(
		os.Symlink(self, helper),
		os.WriteFile(conf, []byte(daemonConf), 0o600),
		os.WriteFile(filepath.Join(config, "qemu.conf"), fmt.Appendf(nil, qemuConf, helper), 0o600))
	if err != nil {
		return nil, fmt.Errorf("write the libvirt daemon's configuration: %w", err)
	}
	output, err := os.Create(filepath.Join(dir, "daemon.out"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer output.Close()
	d.cmd = exec.Command(program, "-f", conf, "-p", filepath.Join(dir, "daemon.pid"))
	d.cmd.Env = append(os.Environ(), guest.AdminPath(),
		"HOME="+dir, "XDG_RUNTIME_DIR="+filepath.Join(dir, "run"),
		"XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "XDG_CACHE_HOME="+ownCache)
	d.cmd.Stdout, d.cmd.Stderr = output, output
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	if err := d.waitForSocket(ctx); err != nil {
		said, _ := os.ReadFile(output.Name())
		logged, _ := os.ReadFile(log)
		err = fmt.Errorf("start %s: %w\n%s%s", name, err, said, logged)
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// CheckHost returns a *guest.MissingError when the host lacks something for machines of its own.
func CheckHost() error {
	if err := libvirt.CheckArchitecture(runtime.GOARCH); err != nil {
		return err
	}
	if _, _, err := findDaemon(); err != nil {
		return err
	}
	emulator := "qemu-system-" + libvirt.Arch(runtime.GOARCH)
	if _, err := exec.LookPath(emulator); err != nil {
		return guest.Missing(guest.Install+"qemu-system-x86", "this host has no %s", emulator)
	}
	return nil
}

func findDaemon() (program, socket string, err error) {
	for _, d := range daemons {
		if path, err := guest.FindProgram(d.program); err == nil {
			return path, d.socket, nil
		}
	}
	return "", "", guest.Missing(guest.Install+"libvirt-daemon libvirt-daemon-driver-qemu",
		"there is no libvirt daemon (libvirtd or virtqemud) on this host")
}

// waitForSocket returns when the daemon listens, a moment after its socket has a name.
func (d *Daemon) waitForSocket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonStart)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := net.Dial("unix", d.Socket); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not open %s: %w", d.Socket, context.Cause(ctx))
		case <-d.exited:
			return fmt.Errorf("it ended by itself: %w", d.err)
		case <-poll.C:
		}
	}
}

// Close ends the daemon and removes its files, so that the sandbox can hold another lab. Its
// machines stay until the sandbox ends.
func (d *Daemon) Close() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(5 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	return os.RemoveAll(d.dir)
}
