// Package labtest is the harness of tests with labs: whether this host can make one, ctload and
// other programs as users build them, and what is measured again because the host was busy. Only
// tests import it.
package labtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// Main runs the tests of a package and removes what [Program] built for them. Under one of the
// names in roles, the test binary does what ctload does under that name.
func Main(m *testing.M, roles map[string]func() int) {
	if role, ok := roles[filepath.Base(os.Args[0])]; ok {
		os.Exit(role())
	}
	status := m.Run()
	if folder, err := folder(); err == nil && os.Getenv(builtVariable) == "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(status)
}

// Need skips a test where no lab can be made, and in short mode.
func Need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots virtual machines")
	}
	Ctload(t)
	missing, err := missing()
	if err != nil {
		t.Fatal(err)
	}
	if missing != "" {
		hosttest.Skip(t, "no lab can be made here:\n%s", missing)
	}
}

// missing returns the output of ctload doctor where a lab lacks something, and nothing elsewhere.
// [Ctload] has built the program before.
var missing = sync.OnceValues(func() (string, error) {
	folder, err := folder()
	if err != nil {
		return "", err
	}
	said, err := exec.Command(filepath.Join(folder, "ctload"), "doctor").Output()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		return string(said), nil
	}
	return "", err
})

// Ctload returns the path of ctload as users build it. A test binary cannot replace it: with -race
// it is linked dynamically and too slow for a guest's init.
func Ctload(t testing.TB) string {
	t.Helper()
	return Program(t, "cmd/ctload")
}

// builtVariable passes the folder of programs to a test in a sandbox, which has no compiler.
const builtVariable = "CTLOAD_TEST_BUILT"

// Share lets the processes that a test starts, such as itself again in a namespace, use the
// programs that [Program] has built.
func Share(t *testing.T) {
	t.Helper()
	folder, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(builtVariable, folder)
}

// Environ returns the environment for a test binary in a sandbox. It has the programs that
// [Program] has built.
func Environ(t testing.TB) []string {
	t.Helper()
	folder, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), builtVariable+"="+folder)
}

var folder = sync.OnceValues(func() (string, error) {
	if folder := os.Getenv(builtVariable); folder != "" {
		return folder, nil
	}
	return os.MkdirTemp("", "ctload-test-")
})

// builds holds a func() error for each program, by its path.
var builds sync.Map

// Program returns the path of a static program that it builds once from a package of this module,
// such as cmd/ctload. In a sandbox it returns the program that a test outside has built.
func Program(t testing.TB, source string) string {
	t.Helper()
	folder, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, path.Base(source))
	if os.Getenv(builtVariable) != "" {
		return program
	}
	build, _ := builds.LoadOrStore(program, sync.OnceValue(func() error {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test",
			"-o", program, "github.com/ctload/ctload/"+source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", source, err, out)
		}
		return nil
	}))
	if err := build.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return program
}

// attempts limits how often a test measures.
const attempts = 5

// Repeat calls measure until the measurement is good. It is for what a test itself asks of a
// measurement; ctload repeats the trials that a busy host has spoilt. After the last attempt the
// test judges what it has.
func Repeat(t testing.TB, measure func() (good bool)) {
	t.Helper()
	for attempt := 1; !measure() && attempt < attempts; attempt++ {
		t.Log("the host has spoilt this measurement: once more")
	}
}

// Twice calls measure, and calls it once more where it reports errors: a busy host starves an
// emulated guest, whose times and rates are then off. The errors of the second call are those of
// the test. A fatal error fails the test at once.
func Twice(t testing.TB, measure func(t testing.TB)) {
	t.Helper()
	first := &tentative{TB: t}
	measure(first)
	if len(first.errors) > 0 {
		t.Logf("once more, since a busy host may be the cause of:\n%s",
			strings.Join(first.errors, "\n"))
		measure(t)
	}
}

// tentative keeps the errors of a test that does not fail for them.
type tentative struct {
	testing.TB
	errors []string
}

// Error keeps an error.
func (t *tentative) Error(args ...any) { t.errors = append(t.errors, fmt.Sprint(args...)) }

// Errorf keeps an error.
func (t *tentative) Errorf(format string, args ...any) {
	t.errors = append(t.errors, fmt.Sprintf(format, args...))
}

// Retries is the flag of ctload run with as many attempts at each trial as [Repeat] has.
const Retries = "--retries=4"

// Counted removes from a run the trials that another trial repeated, and returns it.
func Counted(run *results.Run) *results.Run {
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		repeated := func(t results.Trial) bool { return t.RepeatedAs > 0 }
		s.Trials = slices.DeleteFunc(s.Trials, repeated)
	}
	return run
}
