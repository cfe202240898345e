// Package modload loads the modules that a guest's initramfs carries. It is the guest's modprobe:
// the kernel runs /sbin/modprobe, a link to the agent, whenever a rule needs a module, and the
// agent calls [Main]. The build of the initramfs does all slow work: an index maps each name and
// alias to the finished chain of files, in the order in which to load them.
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

// Paths where package guest puts what this package reads.
const (
	Dir       = "/modules"       // the modules, decompressed, one file each
	IndexFile = "/modules/index" // a line for each name and alias: name, then chain of files
	BootFile  = "/modules/boot"  // a line for each file to load at boot, in order
	command   = "/sbin/modprobe" // the name under which the kernel calls the loader
	sysModule = "/sys/module/"   // a folder for each module that the running kernel has
	live      = "live\n"         // the state of a module whose init function has returned
)

// errUnknown says that the initramfs carries no module of that name or alias.
var errUnknown = errors.New("no such module in this initramfs")

// Boot makes /init the guest's modprobe, and loads the modules that the machine itself needs
// (virtio and the like), none of which turns connection tracking on. It needs /proc and /sys
// mounted, and CAP_SYS_MODULE. The list is empty where everything is built in.
//
// The initramfs has no modprobe: the kernel, which asks for a module or two during its own start,
// would start the whole program for each, a tenth of an emulated boot, only to learn that there is
// none.
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

// Load loads the module of a name or alias after everything that it depends on. It skips modules
// that are loaded or built in, so Load may be repeated. The parameters, such as "hashsize=4096", go
// to the named module alone, and are lost if it is already loaded. It needs CAP_SYS_MODULE.
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

// Chain finds the files to load for a name or alias in the text of an index, the named module last.
// A built-in module has an empty chain.
func Chain(index []byte, name string) (files []string, ok bool) {
	if strings.ContainsAny(name, " \n") {
		return nil, false // it would match the beginning of a line, or two
	}
	// Chain searches the index without parsing it: a modprobe is a new process each time, and a map
	// would cost an emulated guest more than everything else here.
	key := []byte("\n" + Canonical(name) + " ")
	_, rest, found := bytes.Cut(index, key)
	if !found {
		return nil, false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strings.Fields(string(line)), true
}

// Canonical returns a module's name with _ for -. The kernel does not distinguish them in names of
// modules; in aliases it does, but the index holds those in the same form.
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
	// The kernel reads a whole file and checks its signature before it notices that it has the
	// module: asking first costs much less.
	name := Canonical(strings.TrimSuffix(file, ".ko"))
	state, err := os.ReadFile(sysModule + name + "/initstate")
	if err == nil && string(state) == live {
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

// finitModule calls finit_module(2). The package golang.org/x/sys/unix has it as well, but is
// initialised late: see init.
func finitModule(f *os.File, params string) error {
	text, err := syscall.BytePtrFromString(params)
	if err != nil {
		return err
	}
	number := sysFinitModule[runtime.GOARCH]
	_, _, errno := syscall.Syscall(number, f.Fd(), uintptr(unsafe.Pointer(text)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sysFinitModule holds the number of the system call by architecture.
var sysFinitModule = map[string]uintptr{"amd64": 313, "arm64": 273}

// init ends a loader's process early. The loader is the whole agent's binary under another name,
// and initialising all of its packages costs an emulated guest tenths of a second, for each module
// that a rule needs. Go runs init in the order of import paths as far as imports allow, so this one
// ends the process before most of them. That is why this package imports only the standard library.
func init() {
	if os.Getpid() != 1 && len(os.Args) > 0 && path.Base(os.Args[0]) == path.Base(command) {
		os.Exit(Main(os.Args[1:]))
	}
}

// Main runs the modprobe command as the kernel and the rule tools call it: -q -- NAME [PARAM...].
// It returns the exit status: 0 when the kernel has the module, 1 when not. It ignores options,
// except that -q suppresses the message about a missing module, since the kernel asks for many that
// do not exist.
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
