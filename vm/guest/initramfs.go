package guest

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Spec says what goes into an initramfs.
type Spec struct {
	// Init is the path of the program that becomes /init, PID 1 of the guest, and /sbin/modprobe
	// (modload.Boot). Build adds the libraries of a dynamically linked one.
	Init   string
	Kernel Kernel
	// Boot names the modules that init loads, in order; Carry those for a rule or the agent to
	// load. Build adds what these depend on. A name may be a pattern (nft_*); ? before it allows
	// its absence, ! removes modules selected before. Nil stands for [defaultBoot] and
	// [DefaultCarry].
	Boot, Carry []string
	// Tools names the host's programs to include: iptables-nft and iptables-legacy stand for their
	// whole families; one that starts with ? may be absent. Nil stands for [DefaultTools].
	Tools []string
	Files map[string]File // more files, by their path in the guest
}

// File is a regular file of the guest: Data, or the contents of the file Source on the host.
type File struct {
	Data   []byte
	Source string
	Mode   fs.FileMode // permission bits; 0 means 0644
}

// Build writes an initramfs, uncompressed, since an emulated guest reads faster than it unpacks.
// The same spec on the same host gives the same bytes. The error may be a [MissingError].
func Build(w io.Writer, spec Spec) error {
	t := newTree()
	for dir := range strings.FieldsSeq(
		"dev etc proc run sys tmp root var usr/bin usr/sbin usr/lib usr/lib64") {
		t.add(dir, entry{mode: typeDir | 0o755})
	}
	// The merged layout of all current distributions, whichever the host has.
	for _, dir := range mergedDirs {
		t.link(dir, "usr/"+dir)
	}
	t.link("var/run", "../run")
	t.device("dev/console", 0o600, 5, 1)
	t.device("dev/null", 0o666, 1, 3)
	t.device("dev/kmsg", 0o644, 1, 11)

	if err := t.addInit(spec.Init); err != nil {
		return fmt.Errorf("build initramfs: init: %w", err)
	}
	if spec.Boot == nil {
		spec.Boot = defaultBoot()
	}
	if spec.Carry == nil {
		spec.Carry = DefaultCarry()
	}
	if spec.Tools == nil {
		spec.Tools = DefaultTools()
	}
	if err := t.addModules(spec.Kernel, spec.Boot, spec.Carry); err != nil {
		return fmt.Errorf("build initramfs: modules of %s: %w", spec.Kernel.Release, err)
	}
	if err := t.addTools(spec.Tools); err != nil {
		return fmt.Errorf("build initramfs: tools: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Files)) {
		if err := t.addFile(name, spec.Files[name]); err != nil {
			return fmt.Errorf("build initramfs: file %s: %w", name, err)
		}
	}
	if err := t.write(w); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// BuildFile builds as [Build] does, into a file, complete or absent, and returns its size in bytes.
func BuildFile(name string, spec Spec) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".initramfs-*")
	if err != nil {
		return 0, fmt.Errorf("build initramfs: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = errors.Join(Build(buffered, spec), buffered.Flush())
	if info, statErr := f.Stat(); statErr == nil {
		size = info.Size()
	}
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return 0, err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return 0, fmt.Errorf("build initramfs: %w", err)
	}
	return size, nil
}

// mergedDirs lists the folders of the root that are links into /usr.
var mergedDirs = []string{"bin", "sbin", "lib", "lib64"}

// tree is an unwritten initramfs: entries by their path without a leading slash.
type tree struct{ entries map[string]entry }

func newTree() *tree { return &tree{entries: map[string]entry{}} }

// clean returns the key of the entry of a path in the guest, free of links of the merged layout.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for _, dir := range mergedDirs {
		if strings.HasPrefix(name, dir+"/") {
			return "usr/" + name
		}
	}
	return name
}

// add adds an entry and the folders above it. The first entry of a name stays.
func (t *tree) add(name string, e entry) {
	name = clean(name)
	if dir := path.Dir(name); dir != "." {
		if _, there := t.entries[dir]; !there {
			t.add(dir, entry{mode: typeDir | 0o755})
		}
	}
	if _, there := t.entries[name]; !there {
		t.entries[name] = e
	}
}

func (t *tree) link(name, target string) {
	t.add(name, entry{mode: typeLink | 0o777, data: []byte(target)})
}

func (t *tree) device(name string, perm, major, minor uint32) {
	t.add(name, entry{mode: typeChar | perm, major: major, minor: minor})
}

func (t *tree) regular(name string, perm fs.FileMode, data []byte) {
	t.add(name, entry{mode: typeRegular | uint32(perm.Perm()), data: data})
}

func (t *tree) addFile(name string, f File) error {
	data := f.Data
	if f.Source != "" {
		var err error
		if data, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	// A file of the caller's replaces one of this package's.
	delete(t.entries, clean(name))
	t.regular(name, cmp.Or(f.Mode, 0o644), data)
	return nil
}

func (t *tree) addInit(program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	t.regular("init", 0o755, loadable(data))
	return t.addNeeds(program)
}

// write writes the entries sorted by name, which puts each folder before its contents.
func (t *tree) write(w io.Writer) error {
	n := &newcWriter{w: w}
	for i, name := range slices.Sorted(maps.Keys(t.entries)) {
		n.write(name, t.entries[name], i+1)
	}
	n.write(newcTrailer, entry{}, 0)
	return n.err
}

// entry is one file of an initramfs.
type entry struct {
	mode         uint32 // as in stat(2): type and permissions
	major, minor uint32 // of a device node
	data         []byte // contents, or the target of a symbolic link
}

// Types of files in a mode.
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
	typeChar    = 0o020000
)

const (
	newcMagic   = "070701"
	newcTrailer = "TRAILER!!!"
	newcMax     = 1<<32 - 1 // sizes are eight hexadecimal digits
)

// newcWriter writes the cpio format of the kernel's initramfs ("newc",
// Documentation/driver-api/early-userspace/buffer-format.rst). The library of the format writes no
// device numbers, without which init would start without a console. Owners and times are zero and
// inodes count up, so that the same files give the same bytes.
type newcWriter struct {
	w   io.Writer
	err error
}

func (n *newcWriter) write(name string, e entry, inode int) {
	if n.err == nil && len(e.data) > newcMax {
		n.err = fmt.Errorf("add %s to the initramfs: %w: over 4 GiB", name, fs.ErrInvalid)
	}
	const uid, gid, links, mtime, devMajor, devMinor, checksum = 0, 0, 1, 0, 0, 0, 0
	header := []byte(newcMagic)
	for _, number := range []uint32{
		uint32(inode), e.mode, uid, gid, links, mtime, uint32(len(e.data)),
		devMajor, devMinor, e.major, e.minor, uint32(len(name) + 1), checksum,
	} {
		header = fmt.Appendf(header, "%08x", number)
	}
	header = append(header, name+"\x00"...)
	for _, part := range [][]byte{header, e.data} {
		for _, bytes := range [][]byte{part, make([]byte, -len(part)&3)} { // padded to words
			if n.err == nil {
				_, n.err = n.w.Write(bytes)
			}
		}
	}
}
