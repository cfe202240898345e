// Package hosttest gives tests the programs of the host, waits for what a busy host does late, and
// decides whether a test that lacks something is skipped or fails. Only tests import it.
package hosttest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Skip skips a test that needs something the host lacks. Under CTLOAD_NO_SKIP, which `make test`
// sets, the test fails.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CTLOAD_NO_SKIP") != "" {
		t.Fatalf("must not be skipped: "+format, args...)
	}
	t.Skipf(format, args...)
}

// Long reports whether tests of minutes are wanted, as by `make test-long`.
func Long() bool { return os.Getenv("CTLOAD_LONG") != "" }

// NeedTime skips a test that takes minutes, unless such tests are wanted (see [Long]).
func NeedTime(t testing.TB) {
	t.Helper()
	if !Long() {
		t.Skip("it takes minutes: make test-long")
	}
}

// Program returns the path of a program of the host. It skips the test when the program is missing,
// and fails it when the list of what make installs (.ci/programs) does not name the program.
func Program(t testing.TB, name string) string {
	t.Helper()
	need, err := listed(name)
	if err != nil {
		t.Fatal(err)
	}
	found, err := look(name)
	if err != nil && need.elsewhere() {
		t.Skipf("%s, which no package of this distribution has, is missing", name)
	}
	if err != nil {
		Skip(t, "%v (package %s)", err, need.pkg)
	}
	return found
}

// Need skips a test that lacks one of the programs, as [Program] does.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Program(t, name)
	}
}

// OneOf returns the path of the first of the programs that the host has. It skips or fails as
// [Program] does.
func OneOf(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names[:len(names)-1] {
		if _, err := look(name); err == nil {
			return Program(t, name)
		}
	}
	return Program(t, names[len(names)-1])
}

// look finds a program in the PATH and in the folders of administrators' programs, which the PATH
// of an ordinary user of Debian lacks.
func look(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin", "/sbin"} {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("the host has no program %s", name)
}

// line is one line of .ci/programs.
type line struct {
	set      string
	programs []string // names or patterns
	pkg      string   // the package that has them
}

// elsewhere reports whether make installs the package only on a distribution other than this
// host's.
func (l line) elsewhere() bool {
	_, distribution, only := strings.Cut(l.set, "-")
	return only && distribution != hostID()
}

var hostID = sync.OnceValue(func() string {
	text, _ := os.ReadFile("/etc/os-release")
	for text := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(text, "ID="); ok {
			return strings.Trim(strings.TrimSpace(id), `"`)
		}
	}
	return ""
})

// started is the folder in which the test binary was started: its package's.
var started, errStarted = os.Getwd()

func root() (string, error) {
	if errStarted != nil {
		return "", errStarted
	}
	for dir := started; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("no go.mod in %s or above it", started)
		}
	}
}

// listVariable passes the list to a process that may not be able to read it.
const listVariable = "CTLOAD_TEST_PROGRAMS"

// Environ returns the environment for a test that runs again as another user, who may not enter the
// folder of the module.
func Environ() []string {
	text, err := list()
	if err != nil {
		return os.Environ() // the test reports it when it asks for a program
	}
	return append(os.Environ(), listVariable+"="+string(text))
}

func list() ([]byte, error) {
	if text := os.Getenv(listVariable); text != "" {
		return []byte(text), nil
	}
	dir, err := root()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, ".ci/programs"))
}

var lines = sync.OnceValues(func() ([]line, error) {
	text, err := list()
	if err != nil {
		return nil, err
	}
	return parse(text)
})

func parse(text []byte) (list []line, err error) {
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; scanner.Scan(); n++ {
		fields := strings.Fields(scanner.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) != 3:
			return nil, fmt.Errorf(".ci/programs:%d: want SET PROGRAM PACKAGE, not %q",
				n, scanner.Text())
		default:
			l := line{fields[0], strings.Split(fields[1], "|"), fields[2]}
			for _, pattern := range l.programs {
				if _, err := path.Match(pattern, ""); err != nil {
					return nil, fmt.Errorf(".ci/programs:%d: %s: %w", n, pattern, err)
				}
			}
			list = append(list, l)
		}
	}
	return list, scanner.Err()
}

// listed returns the line that names a program; of several, one that applies to this host's
// distribution.
func listed(name string) (found line, err error) {
	list, err := lines()
	if err != nil {
		return line{}, err
	}
	known := false
	for _, l := range list {
		for _, pattern := range l.programs {
			if ok, _ := path.Match(pattern, name); ok && (!known || found.elsewhere()) {
				found, known = l, true
			}
		}
	}
	if !known {
		return line{}, fmt.Errorf("make does not install %s: add it to .ci/programs", name)
	}
	return found, nil
}

// The locks are on folders of the module: they exist, every user may open them, and the kernel
// releases the lock of a process that dies.
const (
	settingsLock = "internal"
	// Tests that share wait in it behind one that changes.
	queueLock = "internal/hosttest"
)

// SharesSettings keeps the host-wide settings of connection tracking unchanged until release, for a
// test in namespaces: nf_conntrack_max limits the tables of all namespaces.
func SharesSettings(t testing.TB) (release func()) {
	t.Helper()
	return lockSettings(t, unix.LOCK_SH)
}

// ChangesSettings waits until no test of any package shares the host-wide settings of connection
// tracking, and reserves them for the caller until release.
func ChangesSettings(t testing.TB) (release func()) {
	t.Helper()
	return lockSettings(t, unix.LOCK_EX)
}

func lockSettings(t testing.TB, how int) (release func()) {
	t.Helper()
	leaveQueue := lock(t, queueLock, unix.LOCK_EX)
	defer leaveQueue()
	release = sync.OnceFunc(lock(t, settingsLock, how))
	t.Cleanup(release)
	return release
}

func lock(t testing.TB, folder string, how int) (release func()) {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, folder))
	if err != nil {
		t.Fatal(err)
	}
	err = unix.EINTR // a signal may end the wait
	for errors.Is(err, unix.EINTR) {
		err = unix.Flock(int(f.Fd()), how)
	}
	if err != nil {
		t.Fatalf("lock the host's settings: %v", err)
	}
	return func() { _ = f.Close() }
}

// Poll asks every 20 ms until a condition holds, and reports whether it did within limit.
func Poll(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		late := time.Now().After(deadline)
		if holds() {
			return true
		}
		if late {
			return false
		}
	}
}

// Eventually waits until a condition holds, longer than a busy host stands still. It fails the test
// when the condition does not come to hold.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const limit = 30 * time.Second
	if !Poll(limit, holds) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

// Buffer holds what a running command writes. It is safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// WaitFor waits until text appears.
func (b *Buffer) WaitFor(t testing.TB, text string, limit time.Duration) {
	t.Helper()
	if !Poll(limit, func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("%q did not appear within %v in:\n%s", text, limit, b)
	}
}
