package guest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// aptConf makes apt's state private, clears the host's hooks, which are for root and the system's
// own lists, and refuses archives that cannot be verified, whatever the host's settings say.
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
func newApt(
	dir string, d *distro, from archive, progress func(percent float64),
) (*apt, error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	keyrings, err := d.trusted(filepath.Join(dir, "keys.asc"))
	errs := []error{err}
	for name, text := range map[string]string{
		"apt.conf":     fmt.Sprintf(aptConf, dir, runtime.GOARCH),
		"sources.list": from.sources(keyrings),
		"status":       "",
	} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return &apt{dir: dir, progress: progress, stall: aptStall}, errors.Join(errs...)
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
		list := stanzas(text)
		if len(list) == 0 || list[0]["package"] != name || list[0]["version"] == "" {
			return nil, fmt.Errorf("no package %s in the archive", name)
		}
		packages = append(packages, pkg{name, list[0]["version"]})
		queue = append(queue, kernelParts(list[0]["depends"])...)
	}
	if len(packages) < 2 {
		return nil, fmt.Errorf("package %s depends on no kernel", meta)
	}
	return packages, nil
}

// kernelParts selects the packages of a Depends field that hold parts of a kernel.
func kernelParts(depends string) (names []string) {
	for dep := range strings.SplitSeq(depends, ",") {
		if match := kernelPart.FindStringSubmatch(dep); match != nil {
			names = append(names, match[1])
		}
	}
	return names
}

// kernelPart matches a part of a kernel as the first alternative of a dependency.
var kernelPart = regexp.MustCompile(`^\s*(linux-(?:image|binary|modules|base)-[^\s:|]*)`)

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
		if _, err := a.tool(ctx, func() {}, a.dir, "dpkg-deb", "-x", deb, to); err != nil {
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
	stalled := fmt.Errorf("no progress for %v", a.stall)
	watchdog := time.AfterFunc(a.stall, func() { cancel(stalled) })
	defer watchdog.Stop()
	options := []string{program, "-q", "-c", a.dir + "/apt.conf", "-o", "APT::Status-Fd=3"}
	return a.tool(ctx, func() { watchdog.Reset(a.stall) }, dir, append(options, args...)...)
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

// tool runs a program of the host to its end and returns its standard output. The program dies with
// the context and with this process; descriptor 3, the first of ExtraFiles, is for its status.
func (a *apt) tool(ctx context.Context, moved func(), dir string, args ...string) (string, error) {
	program := args[0]
	path, err := FindProgram(program)
	if err != nil {
		return "", Missing("install it, or give the kernel by the paths of its image and modules",
			"%s, which fetches kernels by name, is not installed on this host: %w", program, err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", AdminPath())
	// The kernel kills the program when the thread that started it ends, so this holds the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	const grace = 3 * time.Second // from SIGTERM to SIGKILL
	cmd.WaitDelay = grace

	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	cmd.ExtraFiles = []*os.File{w}
	var group errgroup.Group
	group.Go(func() error { return errors.Join(a.status(r, moved), r.Close()) })
	err = errors.Join(cmd.Start(), w.Close())
	if err == nil {
		err = cmd.Wait()
	}
	err = cmp.Or(err, group.Wait())
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
		line = strings.TrimPrefix(strings.TrimSpace(line), "E: ")
		// Summarizes the lines before it.
		summary := strings.HasPrefix(line, "Some index files failed to download")
		if line != "" && !summary && !slices.Contains(said, line) && len(said) < most {
			said = append(said, line)
		}
	}
	switch {
	case strings.Contains(strings.ToLower(stderr), syscall.ENOSPC.Error()):
		err = syscall.ENOSPC
	case errors.Is(err, fs.ErrPermission):
		err = fs.ErrPermission
	}
	return fmt.Errorf("%s: %w: %s", program, err, strings.Join(said, "; "))
}
