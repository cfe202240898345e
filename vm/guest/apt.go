package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// apt is the host's apt with a private state: of the system's settings it reads only those for
// proxies and passwords, it changes none, and it needs no root.
type apt struct {
	dir      string // holds all of its state
	progress func(percent float64)
	stall    time.Duration // apt is stopped after that long without progress
}

// aptConf makes apt's state private. It clears the hooks of the host, which are written for root
// and for the system's own lists, and refuses archives that cannot be verified, whatever the host's
// settings say.
const aptConf = `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "%[2]s";
APT::Architectures "%[2]s";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
Acquire::http::Timeout "10";
Acquire::https::Timeout "10";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::State::extended_states "%[1]s/extended_states";
Dir::Cache "%[1]s/cache";
Dir::Log "%[1]s/log";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
`

// newApt prepares a state in dir, an absolute path.
func newApt(dir string, from archive, progress func(percent float64)) (*apt, error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	a := &apt{dir: dir, progress: progress, stall: aptStall}
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "apt.conf"), fmt.Appendf(nil, aptConf, dir, runtime.GOARCH), 0o644),
		os.WriteFile(filepath.Join(dir, "sources.list"), []byte(strings.Join(from, "\n")+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "status"), nil, 0o644))
	return a, err
}

// update reads the archive's index and checks its signature.
func (a *apt) update(ctx context.Context) error {
	_, err := a.run(ctx, a.dir, "apt-get", "update")
	return err
}

// pkg is a version of a package.
type pkg struct{ name, version string }

// kernel finds the packages of the kernel that a meta package depends on.
func (a *apt) kernel(ctx context.Context, meta string) (packages []pkg, err error) {
	queue := []string{meta}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if slices.ContainsFunc(packages, func(p pkg) bool { return p.name == name }) {
			continue
		}
		text, err := a.run(ctx, a.dir, "apt-cache", "show", "--no-all-versions", name)
		if err != nil {
			return nil, err
		}
		for stanza := range stanzas(text) {
			if stanza["package"] != name || stanza["version"] == "" {
				return nil, fmt.Errorf("no package %s in the archive", name)
			}
			packages = append(packages, pkg{name, stanza["version"]})
			queue = append(queue, kernelParts(stanza["depends"])...)
			break
		}
	}
	if len(packages) < 2 {
		return nil, fmt.Errorf("package %s depends on no kernel", meta)
	}
	return packages, nil
}

// kernelParts selects the packages of a Depends field that hold parts of a kernel.
func kernelParts(depends string) (names []string) {
	for dep := range strings.SplitSeq(depends, ",") {
		first, _, _ := strings.Cut(dep, "|")
		words := strings.Fields(first)
		if len(words) == 0 {
			continue
		}
		name, _, _ := strings.Cut(words[0], ":")
		for _, prefix := range []string{"linux-image-", "linux-binary-", "linux-modules-", "linux-base-"} {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names
}

// download fetches packages into the folder dir and checks them against the signed index.
func (a *apt) download(ctx context.Context, dir string, packages []pkg) error {
	args := []string{"download"}
	for _, p := range packages {
		args = append(args, p.name+"="+p.version)
	}
	_, err := a.run(ctx, dir, "apt-get", args...)
	return err
}

// unpack unpacks all packages of the folder from into the folder to.
func (a *apt) unpack(ctx context.Context, from, to string) error {
	debs, err := filepath.Glob(filepath.Join(from, "*.deb"))
	if err != nil {
		return err
	}
	for i, deb := range debs {
		if _, err := runTool(ctx, a.dir, nil, "dpkg-deb", "-x", deb, to); err != nil {
			return err
		}
		a.progress(100 * float64(i+1) / float64(len(debs)))
	}
	return nil
}

// aptStall bounds the time without any progress. apt's own time limits are shorter, but cover only
// the network: on a full disk apt waits forever.
const aptStall = 90 * time.Second

func (a *apt) run(ctx context.Context, dir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(a.stall, func() { cancel(fmt.Errorf("no progress for %v", a.stall)) })
	defer watchdog.Stop()
	follow := func(r io.Reader) error {
		return a.status(r, func() { watchdog.Reset(a.stall) })
	}
	// File descriptor 3 is the first of ExtraFiles.
	options := []string{"-q", "-c", filepath.Join(a.dir, "apt.conf"), "-o", "APT::Status-Fd=3"}
	return runTool(ctx, dir, follow, program, append(options, args...)...)
}

// status follows apt's reports of progress: "dlstatus:1:23.4:Retrieving file ...". apt repeats them
// without any change; status calls moved only after a change.
func (a *apt) status(r io.Reader, moved func()) error {
	lines, last := bufio.NewScanner(r), ""
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 4)
		if len(fields) < 4 || fields[0] != "dlstatus" {
			continue
		}
		if percent, err := strconv.ParseFloat(fields[2], 64); err == nil {
			a.progress(percent)
		}
		if fields[2] != last {
			last = fields[2]
			moved()
		}
	}
	return lines.Err()
}

// runTool runs a program of the host to its end and returns its standard output. The program dies
// with the context and with this process. follow reads what the program writes to descriptor 3.
func runTool(ctx context.Context, dir string, follow func(io.Reader) error, program string, args ...string) (string, error) {
	path, err := FindProgram(program)
	if err != nil {
		return "", &MissingError{
			What: program + ", which fetches kernels by name, is not installed on this host",
			Fix:  "install it, or give the kernel by the paths of its image and modules", Err: err,
		}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
	// The kernel kills the program when the thread that started it ends, so this holds the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	const grace = 3 * time.Second // from SIGTERM to SIGKILL
	cmd.WaitDelay = grace

	var group errgroup.Group
	var w *os.File
	if follow != nil {
		var r *os.File
		if r, w, err = os.Pipe(); err != nil {
			return "", err
		}
		cmd.ExtraFiles = []*os.File{w}
		group.Go(func() error { return errors.Join(follow(r), r.Close()) })
	}
	err = cmd.Start()
	if w != nil {
		err = errors.Join(err, w.Close())
	}
	if err == nil {
		err = cmd.Wait()
	}
	if followErr := group.Wait(); err == nil {
		err = followErr
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", program, context.Cause(ctx))
	}
	if err != nil {
		return "", toolError(program, err, stderr.String())
	}
	return stdout.String(), nil
}

// toolError puts a program's messages about its failure into one line.
func toolError(program string, err error, stderr string) error {
	const most = 4 // lines: apt repeats itself
	var said []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(line, "E: ")
		// Summarizes the lines before it.
		summary := strings.HasPrefix(line, "Some index files failed to download")
		if line != "" && !summary && !slices.Contains(said, line) && len(said) < most {
			said = append(said, line)
		}
	}
	if strings.Contains(stderr, syscall.ENOSPC.Error()) || strings.Contains(stderr, "No space left on device") {
		err = syscall.ENOSPC
	} else if errors.Is(err, fs.ErrPermission) {
		err = fs.ErrPermission
	}
	return fmt.Errorf("%s: %w: %s", program, err, strings.Join(said, "; "))
}
