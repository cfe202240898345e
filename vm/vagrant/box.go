package vagrant

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

//go:embed box
var boxScript string

// BuildBox names the box that ctload builds on this host from its own distribution's packages.
const BuildBox = "build"

// DefaultBox is the catalogue's box for a run that names none, where none was built.
const DefaultBox = "debian/bookworm64"

// Limits of getting a box: the packages of a distribution, or a gigabyte over a slow line.
const (
	buildLimit = 15 * time.Minute
	fetchLimit = 30 * time.Minute
)

// Box is a box that Vagrant has.
type Box struct {
	Name  string // Vagrant's name
	Given string // the user's name or path
	boxes string // folder in which Vagrant finds it
	stamp string // of a file: distinguishes boxes of the same name
}

// identity returns the box's name and its version in the catalogue, or a stamp of its file. The
// version is the one that the Vagrantfile takes: CTLOAD_BOX_VERSION, else the newest installed.
func (b Box) identity() (name, version string) {
	if b.stamp != "" {
		return filepath.Base(b.Given), b.stamp
	}
	if version = os.Getenv("CTLOAD_BOX_VERSION"); version != "" {
		return b.Name, version
	}
	entries, _ := os.ReadDir(b.folder())
	for _, entry := range entries {
		if entry.IsDir() && (version == "" || newer(entry.Name(), version)) {
			version = entry.Name()
		}
	}
	return b.Name, version
}

// newer compares versions number by number, as 20240905.1 and 20240717.1.
func newer(a, b string) bool {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		m, errX := strconv.Atoi(x)
		n, errY := strconv.Atoi(y)
		if errX != nil || errY != nil {
			return strings.Compare(x, y)
		}
		return m - n
	}) > 0
}

// folder returns the box's folder, which has one for each version, some with architectures below.
func (b Box) folder() string {
	return filepath.Join(b.boxes, strings.ReplaceAll(b.Name, "/", slash))
}

// slash replaces a slash of a box's name in the name of its folder.
const slash = "-VAGRANTSLASH-"

// InstalledBoxes returns the names of the boxes for libvirt that the user's Vagrant has.
func InstalledBoxes() []string {
	boxes := filepath.Join(userHome(), "boxes")
	entries, err := os.ReadDir(boxes)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		box := Box{Name: strings.ReplaceAll(entry.Name(), slash, "/"), boxes: boxes}
		if box.installed() {
			names = append(names, box.Name)
		}
	}
	return names
}

// FindBox finds a box, or builds it, adds its file or fetches it. given is [BuildBox], the path of
// a .box file, a name in Vagrant's catalogue, or empty: the one that was built earlier, else
// [DefaultBox]. cache keeps files. A process without a network needs an earlier call by one that
// has one. The error is a *guest.MissingError when the box cannot be had.
func FindBox(ctx context.Context, given, cache string, tell func(string)) (Box, error) {
	built := filepath.Join(cache, "boxes", "built.box")
	switch {
	case given == BuildBox:
		if err := build(ctx, built, tell); err != nil {
			return Box{}, err
		}
		return addFile(ctx, built, cache)
	case given == "":
		if _, err := os.Stat(built); err == nil {
			return addFile(ctx, built, cache)
		}
		return fetch(ctx, DefaultBox, tell)
	case strings.HasSuffix(given, ".box"):
		return addFile(ctx, given, cache)
	}
	return fetch(ctx, given, tell)
}

// CheckFile rejects a missing .box file. Other text is a name, which the catalogue judges.
func CheckFile(given string) error {
	if !strings.HasSuffix(given, ".box") {
		return nil
	}
	if info, err := os.Stat(given); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("there is no file %s; --box %s builds a box of this host's packages",
			given, BuildBox)
	}
	return nil
}

// build makes the box of the host's own distribution unless it exists.
func build(ctx context.Context, path string, tell func(string)) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	tell("building a box of this host's distribution, which takes a minute or two")
	ctx, cancel := within(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-s", "--", path)
	cmd.Stdin = strings.NewReader(boxScript)
	var said vm.Tail
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return guest.Missing("see above, or name a box of a catalogue: --box "+DefaultBox,
			"a box of this host's distribution could not be built: %w: %s",
			err, sentence(said.String()))
	}
	return nil
}

// within returns a context for a program. Its cause names the limit.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not end within %v", limit))
}

// howToBuild is the way out where a box cannot be had.
const howToBuild = "ctload run ... --box " + BuildBox + "   builds one of this host's packages"

// addFile lets Vagrant unpack a box's file, unless it has. The name stands for its present state.
func addFile(ctx context.Context, path, cache string) (Box, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Box{}, guest.Missing(howToBuild, "there is no box %s: %w", path, err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Box{}, err
	}
	stamp := fnv.New32a()
	fmt.Fprint(stamp, absolute, info.Size(), info.ModTime().UnixNano())
	box := Box{Given: path, boxes: filepath.Join(cache, "vagrant", "boxes")}
	box.stamp = fmt.Sprintf("%08x", stamp.Sum32())
	box.Name = "ctload-" + strings.TrimSuffix(filepath.Base(path), ".box") + "-" + box.stamp
	return box, box.add(ctx, "--name", box.Name, absolute)
}

// fetch lets Vagrant fetch a box from its catalogue, unless the user has it.
func fetch(ctx context.Context, name string, tell func(string)) (Box, error) {
	box := Box{Name: name, Given: name, boxes: filepath.Join(userHome(), "boxes")}
	if !box.installed() {
		tell("fetching the box " + name)
	}
	return box, box.add(ctx, name)
}

// installed reports whether Vagrant has the box unpacked, for libvirt. Its folder has its version,
// its architecture with Vagrant 2.4, and the provider.
func (b Box) installed() bool {
	return slices.ContainsFunc([]string{"*", "*/*"}, func(versions string) bool {
		list, _ := filepath.Glob(filepath.Join(b.folder(), versions, "libvirt", "metadata.json"))
		return len(list) > 0
	})
}

// add runs `vagrant box add` unless the box exists.
func (b Box) add(ctx context.Context, args ...string) error {
	if b.installed() {
		return nil
	}
	dir, err := os.MkdirTemp("", "ctload-vagrant-")
	if err != nil {
		return fmt.Errorf("add the box %s: %w", b.Given, err)
	}
	defer os.RemoveAll(dir)
	s, err := newState(dir, b.boxes)
	if err != nil {
		return err
	}
	add := []string{"box", "add", "--no-tty", "--provider", "libvirt"}
	_, err = s.run(ctx, fetchLimit, append(add, args...)...)
	_, missing := errors.AsType[*guest.MissingError](err)
	if err != nil && !missing && ctx.Err() == nil {
		return guest.Missing(howToBuild+"; --box takes the path of a .box file, too",
			"the box %s cannot be had: %w", b.Given, err)
	}
	return err
}
