// Package sandbox runs this program again inside user, mount, network and PID namespaces of its
// own, so that everything made there (daemons, machines, bridges, taps, sockets) ends with it, also
// by SIGKILL: when the last of its processes is gone, the kernel removes the rest.
//
// Three processes take part:
//
//	caller        ctload as the user started it; waits, forwards signals, returns the exit status
//	supervisor    PID 1 of the namespaces; mounts, starts the command, reaps (see [Supervise])
//	command       ctload again, with the arguments of the caller; [Inside] is true there
//
// The supervisor is a process of its own since PID 1 must reap every orphan, and a blanket wait in
// the command would steal os/exec's children. Without it libvirt waits 40 s for each dead probe.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names (argv[0]) under which this program starts itself again.
const (
	SupervisorRole = "ctload-supervisor"
	CheckRole      = "ctload-sandbox-check"
)

// orderEnv holds the [order] of a process of a sandbox, as JSON.
const orderEnv = "CTLOAD_SANDBOX"

// order tells the supervisor and the command what they are. The descriptors that they inherit are
// lifeFD, then those of Folders, which only the supervisor gets, then those of Files.
type order struct {
	Caller  int      // id, outside, of the process that made the sandbox
	Life    uint64   // inode of the pipe at lifeFD
	Space   uint64   // inode of the sandbox's PID namespace; 0 until the supervisor knows it
	Folders []string // paths of the folders that may be written
	Files   []string // names of further descriptors
}

// lifeFD is the descriptor on which the supervisor notices that the caller is gone.
const lifeFD = 3

// Handover holds the input and the files that the caller hands over to the command in the sandbox.
// All else of the host is read-only there.
type Handover struct {
	Input    []byte     // its standard input
	Writable []*os.File // open folders, writable at their paths
	// Files are further descriptors, which [File] returns there, by name.
	Files map[string]*os.File
}

// command returns the place of this process when it is the command of a sandbox. The variable is no
// proof by itself: users and the processes of a sandbox pass it on. So the process must hold the
// named life line, and live in the named namespace. Processes that it starts inherit neither.
var command = sync.OnceValue(func() *place {
	text := os.Getenv(orderEnv)
	os.Unsetenv(orderEnv)
	p := place{files: map[string]*os.File{}}
	if json.Unmarshal([]byte(text), &p.order) != nil || p.Life == 0 || p.Space == 0 ||
		inode(fmt.Sprintf("/proc/self/fd/%d", lifeFD)) != p.Life ||
		inode("/proc/self/ns/pid") != p.Space {
		return nil
	}
	unix.CloseOnExec(lifeFD)
	for i, name := range p.Files {
		fd := lifeFD + 1 + i
		unix.CloseOnExec(fd)
		p.files[name] = os.NewFile(uintptr(fd), name)
	}
	return &p
})

// place holds the order and the files of the command of a sandbox.
type place struct {
	order
	files map[string]*os.File
}

// inode returns the inode of a file; 0: there is none.
func inode(path string) uint64 {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return 0
	}
	return stat.Ino
}

// Inside reports whether this process is the command in a sandbox made by [Run] or [RunAsRoot].
func Inside() bool { return command() != nil }

// Caller returns the id of the process that the user started: the sandbox's maker, or this one.
func Caller() int {
	if p := command(); p != nil {
		return p.Caller
	}
	return os.Getpid()
}

// File returns a descriptor that the caller handed over, or nil.
func File(name string) *os.File {
	if p := command(); p != nil {
		return p.files[name]
	}
	return nil
}

// Run starts this program with args in a sandbox and returns its exit status. Run forwards the
// first SIGINT, SIGTERM or SIGHUP; a second one ends the sandbox at once. When ctx ends, Run kills
// the sandbox.
//
// It needs no privilege where the host lets users make user namespaces; see [Check].
func Run(ctx context.Context, args []string, give Handover) (int, error) {
	return run(ctx, args, give, namespaces())
}

// EndingSignals returns the signals that end a run. One that the caller ignores already, as SIGHUP
// under nohup, stays ignored.
func EndingSignals() (list []os.Signal) {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

func run(
	ctx context.Context, args []string, give Handover, in *syscall.SysProcAttr,
) (int, error) {
	// The kernel sends the death signal when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	alive, life, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make the sandbox's life line: %w", err)
	}
	defer life.Close()

	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = SupervisorRole
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(give.Input), os.Stdout, os.Stderr
	o := order{Caller: os.Getpid(), Life: inode(fmt.Sprintf("/proc/self/fd/%d", alive.Fd()))}
	cmd.ExtraFiles = []*os.File{alive} // descriptor lifeFD
	for _, folder := range give.Writable {
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", folder.Fd()))
		if err != nil {
			return 0, fmt.Errorf("hand %s over to the sandbox: %w", folder.Name(), err)
		}
		o.Folders, cmd.ExtraFiles = append(o.Folders, path), append(cmd.ExtraFiles, folder)
	}
	for name, file := range give.Files {
		o.Files, cmd.ExtraFiles = append(o.Files, name), append(cmd.ExtraFiles, file)
	}
	cmd.Env = append(os.Environ(), o.environment()...)
	cmd.SysProcAttr = in
	// A session of its own: ctrl-C then reaches the caller alone, not daemons and machines.
	cmd.SysProcAttr.Setsid = true

	interrupts := make(chan os.Signal, 4)
	if list := EndingSignals(); len(list) > 0 {
		signal.Notify(interrupts, list...)
		defer signal.Stop(interrupts)
	}

	if err := cmd.Start(); err != nil {
		alive.Close()
		return 0, fmt.Errorf("make the sandbox's namespaces: %w", err)
	}
	alive.Close()

	ended := make(chan struct{})
	var forwarding sync.WaitGroup
	forwarding.Go(func() { forward(interrupts, cmd.Process, ended) })
	err = cmd.Wait()
	close(ended)
	forwarding.Wait()

	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// forward sends the first signal on as SIGINT, so that the command saves; a second ends the
// sandbox.
func forward(interrupts <-chan os.Signal, supervisor *os.Process, ended <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-ended:
			return
		case <-interrupts:
			if n == 0 {
				_ = supervisor.Signal(os.Interrupt)
			} else {
				_ = supervisor.Kill()
			}
		}
	}
}

// ownNamespaces are the namespaces that every sandbox has.
const ownNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC

// namespaces describes the sandbox's own namespaces: the caller's uid under a number that is not 0
// (libvirt then works in session mode, the same path for root and for others), and every
// capability, kept across exec through the ambient set.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | ownNamespaces,
		UidMappings: mappings(os.Getuid(), "/proc/self/uid_map"),
		GidMappings: mappings(os.Getgid(), "/proc/self/gid_map"),
		AmbientCaps: allCapabilities(),
		Pdeathsig:   syscall.SIGKILL,
	}
}

// mappings keeps an ordinary user's id. It shifts root's range by one, as far as own (the id map of
// the caller's namespace) has a range: root is then 1 and still owns every user's files, so that
// `sudo ctload` can write its run folder into a user's home.
func mappings(id int, own string) []syscall.SysProcIDMap {
	if id != 0 {
		return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
	}
	return []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: rangeFromZero(own)}}
}

// rangeFromZero returns how many ids from 0 on an id map covers, at least 1 and at most 65,536.
func rangeFromZero(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 1
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, size int
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil && inside == 0 {
			return max(1, min(size, 1<<16-1))
		}
	}
	return 1
}

func allCapabilities() []uintptr {
	caps := make([]uintptr, 0, unix.CAP_LAST_CAP+1)
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		// CAP_PERFMON, CAP_BPF and CAP_CHECKPOINT_RESTORE came with 5.8 and 5.9; raising a
		// capability that the kernel does not know fails.
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && v == 1 {
			caps = append(caps, c)
		}
	}
	return caps
}

// quietBridges keeps frames that cross the lab's bridges away from the rules and the conntrack of
// the sandbox: br_netfilter passes them to both in every new network namespace by default.
func quietBridges() error {
	for _, family := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+family, []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep the lab's bridges out of conntrack: %w", err)
		}
	}
	return nil
}

// hostNetwork names the descriptor of the host's network namespace.
const hostNetwork = "host's network"

// RunAsRoot does what [Run] does, for root with all privileges: the sandbox has no user namespace
// of its own, so that code inside can change settings of the host with [OnHost]. All else ends with
// the sandbox as with Run; changes of the host stay.
func RunAsRoot(ctx context.Context, args []string, give Handover) (int, error) {
	host, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return 0, fmt.Errorf("open the host's network namespace: %w", err)
	}
	defer host.Close()
	give.Files = maps.Clone(give.Files)
	if give.Files == nil {
		give.Files = map[string]*os.File{}
	}
	give.Files[hostNetwork] = host
	return run(ctx, args, give, &syscall.SysProcAttr{
		Cloneflags: ownNamespaces, Pdeathsig: syscall.SIGKILL,
	})
}

// OnHost runs do in the network namespace that the sandbox was made from; outside of a sandbox, in
// the caller's own. It needs a sandbox of [RunAsRoot].
func OnHost(do func() error) error {
	if !Inside() {
		return do()
	}
	host := File(hostNetwork)
	if host == nil {
		return errors.New("this sandbox has no way to its host's network namespace")
	}
	ended := make(chan error)
	go func() {
		// Never unlocked: the thread, in a namespace of its own, ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err != nil {
			ended <- fmt.Errorf("enter the host's network namespace: %w", err)
			return
		}
		ended <- do()
	}()
	return <-ended
}

// environment returns the order as KEY=value.
func (o order) environment() []string {
	text, _ := json.Marshal(o) // of numbers and texts
	return []string{orderEnv + "=" + string(text)}
}

// Supervise runs as PID 1: it arranges the namespaces, starts the command and reaps until it ends;
// it returns the command's exit status. The kernel then kills all other processes inside.
func Supervise() int {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(orderEnv)), &o); err != nil {
		fmt.Fprintf(os.Stderr, "ctload: read what the sandbox is for: %v\n", err)
		return 3
	}
	life := os.NewFile(lifeFD, "life line")
	fd := uintptr(lifeFD + 1)
	writable := map[string]*os.File{}
	for _, path := range o.Folders {
		writable[path] = os.NewFile(fd, path)
		fd++
	}
	files := []*os.File{life} // descriptor lifeFD of the command
	for _, name := range o.Files {
		files = append(files, os.NewFile(fd, name))
		fd++
	}
	if err := arrange(writable); err != nil {
		fmt.Fprintf(os.Stderr, "ctload: %v\n", err)
		return 3
	}
	for _, folder := range writable {
		_ = folder.Close()
	}
	// The death signal is lost where the parent died before it was set; the pipe still ends.
	go func() {
		_, _ = io.Copy(io.Discard, life)
		os.Exit(137)
	}()

	interrupts := make(chan os.Signal, 4)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = "ctload"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	o.Folders, o.Space = nil, inode("/proc/self/ns/pid")
	cmd.Env = append(os.Environ(), append(o.environment(), "TMPDIR="+temporary)...)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "ctload: start the command in the sandbox: %v\n", err)
		return 3
	}
	go func() {
		for range interrupts {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}()
	return reapUntil(cmd.Process.Pid)
}

// reapUntil reaps every child, its own and the orphans that PID 1 inherits, until pid has ended.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "ctload: wait for the command in the sandbox: %v\n", err)
			return 3
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}
