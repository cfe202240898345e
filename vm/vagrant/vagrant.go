// Package vagrant makes labs whose DUT is a distribution as its makers ship it: a machine of a
// Vagrant box, with the box's own kernel, user space, sysctls and tools.
//
// `vagrant up` brings the machine up once, in a sandbox's private libvirt daemon, and the lab
// restores a snapshot before each trial. Its agent speaks over ssh. The load nodes are namespaces
// beside the machine: an emulated load machine would limit the measurement.
//
// The Vagrantfile is the one at the top of the repository, which also works by itself.
package vagrant

import (
	"context"
	_ "embed" // the Vagrantfile and the scripts
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

//go:embed Vagrantfile
var vagrantfile []byte

// state is a folder with Vagrant's state of the machines of one run. It writes only fetched boxes
// into the user's own Vagrant folder.
type state struct {
	dir string
	env []string // CTLOAD_* for the Vagrantfile
}

// newState makes the folder dir. boxes is the folder in which Vagrant finds boxes.
func newState(dir, boxes string) (*state, error) {
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of Vagrant's state: %w", err)
	}
	if err := os.MkdirAll(boxes, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of boxes: %w", err)
	}
	user := userHome() // holds the plugins that the user has installed
	for name, to := range map[string]string{
		"boxes": boxes, "gems": filepath.Join(user, "gems"),
		"plugins.json": filepath.Join(user, "plugins.json"),
	} {
		if _, err := os.Stat(to); err != nil {
			continue
		}
		if err := os.Symlink(to, filepath.Join(home, name)); err != nil {
			return nil, fmt.Errorf("make the folder of Vagrant's state: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Vagrantfile"), vagrantfile, 0o600); err != nil {
		return nil, fmt.Errorf("write the Vagrantfile: %w", err)
	}
	return &state{dir: dir}, nil
}

// userHome returns the user's own Vagrant folder.
func userHome() string {
	if dir := os.Getenv("VAGRANT_HOME"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".vagrant.d")
}

// run runs vagrant within limit and returns its standard output. The error has its message.
func (s *state) run(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := within(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "vagrant", args...)
	cmd.Dir = s.dir
	// A log would mix with its output. An empty setting is no way out: with one, the client of the
	// box catalogue fails.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(setting string) bool {
		return strings.HasPrefix(setting, "VAGRANT_LOG=")
	})
	cmd.Env = append(append(cmd.Env, s.env...),
		"VAGRANT_CWD="+s.dir, "VAGRANT_DOTFILE_PATH="+filepath.Join(s.dir, ".vagrant"),
		"VAGRANT_HOME="+filepath.Join(s.dir, "home"), "VAGRANT_VAGRANTFILE=Vagrantfile",
		"VAGRANT_DEFAULT_PROVIDER=libvirt", "VAGRANT_CHECKPOINT_DISABLE=1", "VAGRANT_NO_COLOR=1")
	var stdout strings.Builder
	var said vm.Tail
	cmd.Stdout, cmd.Stderr = &stdout, &said
	// vagrant starts ssh and other programs, which end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := startUnprivileged(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", missingProgram("vagrant")
	}
	doing := "vagrant " + strings.Join(args, " ")
	return "", fmt.Errorf("%s: %w: %s", doing, err, sentence(said.String()))
}

// startUnprivileged starts a command without the capabilities of the sandbox: the Vagrantfile of a
// box is a program of a stranger, which then can neither mount nor write where the sandbox shows
// the host read-only.
func startUnprivileged(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		// Never unlocked: the thread, which gives its privileges up, ends with this goroutine.
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}
		if err != nil {
			started <- fmt.Errorf("give up the sandbox's privileges: %w", err)
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// sentence joins Vagrant's indented message into one line, without places in its source.
func sentence(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, '\r'); i >= 0 { // overwritten progress
			line = strings.TrimSpace(line[i+1:])
		}
		if line != "" && !strings.HasPrefix(line, "from /") && !slices.Contains(words, line) {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

// missingProgram reports a program that this host lacks.
func missingProgram(what string) error {
	return guest.Missing(guest.Install+packages, "there is no %s on this host", what)
}

// packages are the packages that this driver needs besides the embedded lab's.
const packages = "vagrant vagrant-libvirt qemu-utils dnsmasq-base openssh-client"

// CheckHost returns a *guest.MissingError when the host lacks something for machines of boxes. It
// takes a second or two, in which Vagrant lists its plugins.
func CheckHost(ctx context.Context) error {
	for _, need := range []struct{ program, what string }{
		{"vagrant", "vagrant"}, {"qemu-img", "qemu-img, with which Vagrant copies disks"},
		{"dnsmasq", "dnsmasq, which gives machines their addresses"}, {"ssh", "ssh"},
	} {
		if _, err := guest.FindProgram(need.program); err != nil {
			return missingProgram(need.what)
		}
	}
	dir, err := os.MkdirTemp("", "ctload-vagrant-")
	if err != nil {
		return fmt.Errorf("ask Vagrant for its plugins: %w", err)
	}
	defer os.RemoveAll(dir)
	s, err := newState(dir, filepath.Join(dir, "boxes"))
	if err != nil {
		return err
	}
	const plugin = "vagrant-libvirt"
	list, err := s.run(ctx, time.Minute, "plugin", "list")
	if err != nil {
		return guest.Missing("vagrant plugin repair", "Vagrant does not work on this host: %w", err)
	}
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); name == plugin {
			return nil
		}
	}
	return guest.Missing(guest.Install+plugin+"   (or: vagrant plugin install "+plugin+")",
		"Vagrant has no plugin vagrant-libvirt on this host")
}
