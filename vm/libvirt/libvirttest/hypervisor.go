// Package libvirttest makes hypervisors for tests: each is a libvirt daemon in system mode in its
// own mount, network, PID and IPC namespaces, with private folders, so that several of them share a
// machine without interference. They need root.
package libvirttest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/internal/hosttest"
)

// Hypervisor is one libvirt daemon in its own namespaces.
type Hypervisor struct {
	t      testing.TB
	name   string
	pid    int // of its PID 1, outside
	folder string
	daemon *exec.Cmd
}

// prepare turns the namespaces into a host: private folders for libvirt's files, a /sys of its own
// network, the user that Debian's libvirt requires, and bridges whose frames no rule sees. PID 1
// then reaps until its standard input ends with the test.
const prepare = `set -e
mount -t sysfs sysfs /sys
for dir in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
	mkdir -p $dir
	mount -t tmpfs -o size=512m tmpfs $dir
done
mkdir -p /run/libvirt /run/lock /var/lib/libvirt/images
ip link set lo up
for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 0 >$file; done
cp "$1"/libvirtd.conf "$1"/qemu.conf /etc/libvirt/
for file in passwd group; do
	rest=; [ $file = group ] || rest=64055::/:/bin/false
	{ cat /etc/$file; echo libvirt-qemu:x:64055:$rest; } >"$1/$file"
	mount --bind "$1/$file" /etc/$file
done
echo ready >"$1/ready"
cat >/dev/null
`

const qemuConf = `user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
`

const libvirtdConf = `listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
log_outputs = "2:file:%s"
`

// Start makes a hypervisor with its daemon, until the test ends. name is part of its files' names;
// more adds lines to libvirtd.conf. It listens for TCP, and for TLS when more says so.
func Start(t testing.TB, name string, more ...string) *Hypervisor {
	t.Helper()
	need(t)
	if len(more) == 0 {
		more = []string{"listen_tls = 0"}
	}
	h := &Hypervisor{t: t, name: name, folder: t.TempDir()}
	h.write("qemu.conf", qemuConf)
	log := filepath.Join(h.folder, "daemon.log")
	h.write("libvirtd.conf", fmt.Sprintf(libvirtdConf, log)+strings.Join(more, "\n")+"\n")
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child",
		"--mount-proc", "sh", "-c", prepare, "sh", h.folder)
	life, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.stop(life)
		_ = cmd.Wait()
	})
	ready := func() bool {
		_, err := os.Stat(filepath.Join(h.folder, "ready"))
		return err == nil
	}
	h.await(ready, "its namespaces", said)
	pid := cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(children), &h.pid); err != nil {
		t.Fatalf("%s has no PID 1: %v", name, err)
	}
	h.StartDaemon()
	return h
}

// Root reports whether this process runs the test itself. A daemon in system mode needs root: for
// another user, Root runs the test again through sudo and passes its result on.
func Root(t *testing.T) bool {
	t.Helper()
	if os.Getuid() == 0 || testing.Short() {
		return true
	}
	if err := exec.Command("sudo", "-n", "true").Run(); err != nil {
		return true // need says what is missing
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sudo", "-n", "-E", "--", self,
		"-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20m")
	out, err := cmd.CombinedOutput()
	t.Logf("as root:\n%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as root: %v", err)
	}
	return false
}

// need skips the test where no hypervisor can be made.
func need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots virtual machines")
	}
	if os.Getuid() != 0 {
		hosttest.Skip(t, "a daemon in system mode needs root")
	}
	hosttest.Need(t, "libvirtd", "qemu-system-x86_64", "ip", "nsenter", "unshare")
}

// StartDaemon starts the daemon, also after its end.
func (h *Hypervisor) StartDaemon() {
	h.t.Helper()
	output, err := os.Create(filepath.Join(h.folder, "daemon.out"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer output.Close()
	h.daemon = h.Enter(context.Background(), "libvirtd", "-l", "-f", "/etc/libvirt/libvirtd.conf")
	h.daemon.Stdout, h.daemon.Stderr = output, output
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.await(h.answers, "its daemon", nil)
}

// answers reports whether the daemon answers. Its socket has a name before it listens there, and it
// listens there before it does for TCP and TLS; it answers calls after all of that.
func (h *Hypervisor) answers() bool {
	uri, err := url.Parse(h.URI())
	if err != nil {
		h.t.Fatal(err)
	}
	virt, err := golibvirt.ConnectToURI(uri)
	return err == nil && virt.Disconnect() == nil
}

// KillDaemon kills the daemon with SIGKILL: its machines stay, unless they notice.
func (h *Hypervisor) KillDaemon() {
	h.t.Helper()
	if err := h.Run("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)"); err != nil {
		h.t.Fatalf("kill the daemon of %s: %v", h.name, err)
	}
	_ = h.daemon.Wait()
	if err := h.Run("rm", "-f", "/run/libvirt/libvirt-sock", "/run/libvirtd.pid"); err != nil {
		h.t.Fatal(err)
	}
}

// Command runs a program only in the hypervisor's network namespace, as its own process.
func (h *Hypervisor) Command(program string, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(h.pid), "-n", "--", program}
	return exec.Command("nsenter", append(enter, args...)...)
}

// URI returns the URI of the hypervisor's daemon from this machine.
func (h *Hypervisor) URI() string {
	return "qemu:///system?socket=" + h.Root("/run/libvirt/libvirt-sock")
}

// Enter runs a program in all namespaces of the hypervisor.
func (h *Hypervisor) Enter(ctx context.Context, program string, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(h.pid), "-m", "-n", "-i", "-p", "--", program}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// Run runs a program in the hypervisor to its end.
func (h *Hypervisor) Run(program string, args ...string) error {
	cmd := h.Enter(context.Background(), program, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", program, h.name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Output returns the output of a program in the hypervisor.
func (h *Hypervisor) Output(program string, args ...string) string {
	h.t.Helper()
	out, err := h.Enter(context.Background(), program, args...).Output()
	if err != nil {
		h.t.Fatalf("%s on %s: %v", program, h.name, err)
	}
	return string(out)
}

// Root returns a path that leads to the hypervisor's files.
func (h *Hypervisor) Root(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.pid, path) }

// Links returns the names of the hypervisor's network links.
func (h *Hypervisor) Links() map[string]bool {
	h.t.Helper()
	links := map[string]bool{}
	for line := range strings.Lines(h.Output("ip", "-o", "link", "show")) {
		fields := strings.Fields(line)
		name, _, _ := strings.Cut(strings.TrimSuffix(fields[1], ":"), "@")
		links[name] = true
	}
	return links
}

// Images returns the files in libvirt's folder of images.
func (h *Hypervisor) Images() []string {
	h.t.Helper()
	return strings.Fields(h.Output("ls", "/var/lib/libvirt/images"))
}

// Machines counts the hypervisor's QEMU processes. Others may end while they are counted.
func (h *Hypervisor) Machines() int {
	h.t.Helper()
	names := h.Output("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null || true")
	return strings.Count("\n"+names, "\nqemu-system")
}

// End is one end of a [Cable], with its address in CIDR notation, or none.
type End struct {
	*Hypervisor
	Address string
}

// Cable joins two hypervisors by a veth pair of that name. With bridge, the ends are ports of a
// bridge of that name on each.
func Cable(t testing.TB, name, bridge string, a, b End) {
	t.Helper()
	cmd := exec.Command("ip", "link", "add", name, "netns", fmt.Sprint(a.pid),
		"type", "veth", "peer", "name", name, "netns", fmt.Sprint(b.pid))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a cable between %s and %s: %v: %s", a.name, b.name, err, out)
	}
	for _, end := range []End{a, b} {
		var lines []string
		if bridge != "" {
			lines = append(lines, "link add "+bridge+" type bridge",
				"link set "+name+" master "+bridge, "link set "+bridge+" up")
		}
		if end.Address != "" {
			lines = append(lines, "address add "+end.Address+" dev "+name)
		}
		for _, line := range append(lines, "link set "+name+" up") {
			if err := end.Run("ip", strings.Fields(line)...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stop ends the daemon and everything else in the namespaces.
func (h *Hypervisor) stop(life io.Closer) {
	if h.t.Failed() {
		for _, file := range []string{"daemon.log", "daemon.out"} {
			text, _ := os.ReadFile(filepath.Join(h.folder, file))
			h.t.Logf("%s of %s:\n%s", file, h.name, text)
		}
	}
	_ = life.Close()
	if h.daemon != nil {
		_ = h.daemon.Process.Signal(syscall.SIGTERM)
		_ = h.daemon.Wait()
	}
}

func (h *Hypervisor) await(done func() bool, what string, said fmt.Stringer) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("%s: %s did not appear: %v %v", h.name, what, ctx.Err(), said)
		}
	}
}

func (h *Hypervisor) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.folder, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}
