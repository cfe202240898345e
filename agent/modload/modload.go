// Package modload loads the modules that a guest's initramfs carries. It is the guest's modprobe:
// the kernel runs /sbin/modprobe, a link to the agent, whenever a rule needs a module, and the
// agent calls [Main]. Everything that takes time was done when the initramfs was built: an index
// maps each name and alias to the finished chain of files, in the order in which to load them.
package modload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// Where package guest puts what this package reads.
const (
	Dir       = "/modules"       // the modules, decompressed, one file each
	IndexFile = "/modules/index" // a line for each name and alias: the name, then its chain of files
	BootFile  = "/modules/boot"  // a line for each file to load at boot, in order
	command   = "/sbin/modprobe" // the name under which the kernel calls the loader
	sysModule = "/sys/module/"   // a folder for each module that the running kernel has
	live      = "live\n"         // the state of a module whose init function has returned
)

// errUnknown says that the initramfs carries no module of that name or alias.
var errUnknown = errors.New("no such module in this initramfs")

// Boot makes /init the guest's modprobe, and loads the modules that the machine itself needs (virtio
// and the like), none of which switches connection tracking on. It wants /proc and /sys mounted, and
// CAP_SYS_MODULE. A guest whose kernel has everything built in has an empty list.
//
// The initramfs has no modprobe: the kernel, which asks for a module or two while it sets itself up,
// would start the whole program for each, a tenth of an emulated boot, to hear that there is none.
func Boot() error {
	if err := os.MkdirAll(path.Dir(command), 0o755); err != nil {
		return fmt.Errorf("make the folder of modprobe: %w", err)
	}
	if err := os.Symlink("/init", command); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make modprobe: %w", err)
	}
	list, err := os.ReadFile(BootFile)
	if err != nil {
		return fmt.Errorf("read the list of boot modules: %w", err)
	}
	return load(strings.Fields(string(list)), "")
}

// Load loads the module of the given name or alias after everything that it depends on. Modules
// that are loaded or built in already are passed over, so Load may be repeated at will. The
// parameters, "hashsize=4096" say, go to the named module alone, and are lost on one that is
// loaded already. It wants CAP_SYS_MODULE.
func Load(name string, params ...string) error {
	index, err := os.ReadFile(IndexFile)
	if err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	chain, ok := Chain(index, name)
	if !ok {
		return fmt.Errorf("load module %s: %w", name, errUnknown)
	}
	return load(chain, strings.Join(params, " "))
}

// Chain finds the files to load for a name or alias in the text of an index, the named module
// last. A module that is built into the kernel has an empty chain.
func Chain(index []byte, name string) (files []string, ok bool) {
	if strings.ContainsAny(name, " \n") {
		return nil, false // it would match the beginning of a line, or two
	}
	// The index is searched as it is, not parsed: a modprobe is a new process each time, and
	// a map of it would cost an emulated guest more than everything else here.
	key := []byte("\n" + Canonical(name) + " ")
	_, rest, found := bytes.Cut(index, key)
	if !found {
		return nil, false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strings.Fields(string(line)), true
}

// Canonical is the form of a module's name in which - and _ do not differ. The kernel itself
// makes no difference between them in the names of modules; aliases keep theirs, but are kept in
// the index in the same form.
func Canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

func load(chain []string, params string) error {
	for i, file := range chain {
		own := ""
		if i == len(chain)-1 {
			own = params
		}
		if err := insert(file, own); err != nil {
			return fmt.Errorf("load module %s: %w", strings.TrimSuffix(file, ".ko"), err)
		}
	}
	return nil
}

func insert(file, params string) error {
	// The kernel reads, and checks the signature of, a whole file before it sees that it has
	// the module: asking first is much the cheaper way.
	name := Canonical(strings.TrimSuffix(file, ".ko"))
	if state, err := os.ReadFile(sysModule + name + "/initstate"); err == nil && string(state) == live {
		return nil
	}
	f, err := os.Open(path.Join(Dir, file))
	if err != nil {
		return err
	}
	err = finitModule(f, params)
	if errors.Is(err, syscall.EEXIST) { // another modprobe came first
		err = nil
	}
	return errors.Join(err, f.Close())
}

// finitModule is finit_module(2). The package golang.org/x/sys/unix has it as well, but is
// initialised late: see init.
func finitModule(f *os.File, params string) error {
	text, err := syscall.BytePtrFromString(params)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(sysFinitModule[runtime.GOARCH], f.Fd(), uintptr(unsafe.Pointer(text)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sysFinitModule is the number of the system call by architecture.
var sysFinitModule = map[string]uintptr{"amd64": 313, "arm64": 273}

// The loader is the whole agent's binary under another name. To initialise all of its packages
// costs an emulated guest tenths of a second, for each module that a rule calls for: init, which
// Go runs in the order of import paths as far as imports allow, ends the process before most of
// them. That is why this package imports the standard library alone.
func init() {
	if os.Getpid() != 1 && len(os.Args) > 0 && path.Base(os.Args[0]) == path.Base(command) {
		os.Exit(Main(os.Args[1:]))
	}
}

// Main is the modprobe command as the kernel and the rule tools call it: -q -- NAME [PARAM...].
// It returns the exit status: 0 when the module is there, 1 when it is not. Options are taken and
// ignored, except that -q keeps it silent about a name that nobody carries, as the kernel asks for
// many that do not exist.
func Main(args []string) int {
	quiet := false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		if option == "--" {
			break
		}
		quiet = quiet || option == "-q" || option == "--quiet"
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "modprobe: no module named")
		return 1
	}
	if err := Load(args[0], args[1:]...); err != nil {
		if !quiet || !errors.Is(err, errUnknown) {
			fmt.Fprintln(os.Stderr, "modprobe:", err)
		}
		return 1
	}
	return 0
}
