package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
)

// TestMain lets the test binary act as ctload: it starts itself again as the check and as PID 1 of
// a sandbox.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case CheckRole:
		os.Exit(RunCheck())
	case SupervisorRole:
		os.Exit(Supervise())
	}
	if Inside() {
		os.Exit(runInside())
	}
	os.Exit(m.Run())
}

// runInside runs as the command in the sandbox of TestSandbox.
func runInside() int {
	var wrong []string
	links, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, l := range links {
		if n := l.Name(); n != "lo" && n != "all" && n != "default" {
			wrong = append(wrong, "link "+n+" is visible")
		}
	}
	if input, err := io.ReadAll(os.Stdin); err != nil || string(input) != "given" {
		wrong = append(wrong, fmt.Sprintf("standard input is %q (%v)", input, err))
	}
	if os.Getuid() == 0 {
		wrong = append(wrong, "the uid is 0")
	}
	if os.Getppid() != 1 {
		wrong = append(wrong, "the parent is not PID 1")
	}
	if list, err := os.ReadDir(RuntimeDir); err != nil || len(list) != 1 {
		wrong = append(wrong, fmt.Sprintf("%s holds %v", RuntimeDir, list))
	}
	if os.TempDir() != temporary {
		wrong = append(wrong, "temporary files go to "+os.TempDir())
	}
	handed, err := io.ReadAll(File("note"))
	if err != nil || string(handed) != "by descriptor" {
		wrong = append(wrong, fmt.Sprintf("the descriptor has %q (%v)", handed, err))
	}
	wrong = append(wrong, tryToWrite(os.Args[1], os.Args[2])...)
	wrong = append(wrong, tryOldKernel()...)
	// A process that it starts is not inside: neither by the variable nor with it.
	for _, more := range []string{"", orderEnv + `={"Caller":1,"Life":2,"Space":3}`} {
		again := exec.Command("/proc/self/exe", "-test.run=^TestOutside$", "-test.v")
		again.Env = append(os.Environ(), more)
		if said, err := again.CombinedOutput(); err != nil {
			wrong = append(wrong, string(said))
		}
	}
	// An orphan: PID 1 must reap it. The shell ends at once, its child a little later.
	if err := exec.Command("sh", "-c", "sleep 0.1 & exit 0").Run(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) > 0 {
		os.Stdout.WriteString(strings.Join(wrong, "; ") + "\n")
		return 9
	}
	return 7
}

// tryOldKernel makes mounts read-only as on a kernel without mount_setattr(2).
func tryOldKernel() (wrong []string) {
	top := filepath.Join(RuntimeDir, "top")
	below := filepath.Join(top, "below")
	for _, dir := range []string{top, below} {
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", noDevices, "")
		}
		if err != nil {
			return []string{err.Error()}
		}
	}
	if err := readOnlyEach(top, true); err != nil {
		return []string{err.Error()}
	}
	for _, dir := range []string{top, below} {
		err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
		if !errors.Is(err, unix.EROFS) {
			wrong = append(wrong, fmt.Sprintf("writing into %s: %v", dir, err))
		}
	}
	return wrong
}

// tryToWrite writes into the folder that the caller handed over, and tries the host's others.
func tryToWrite(open, shut string) (wrong []string) {
	if err := os.WriteFile(filepath.Join(open, "file"), []byte("x"), 0o600); err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, dir := range []string{shut, "/", "/etc", "/tmp", "/dev/shm", "/var/tmp", "/root"} {
		err := os.WriteFile(filepath.Join(dir, "ctload-sandbox-test"), nil, 0o600)
		if err == nil {
			wrong = append(wrong, dir+" can be written")
		}
	}
	if text, err := os.ReadFile(filepath.Join(shut, "seen")); err != nil || string(text) != "seen" {
		wrong = append(wrong, fmt.Sprintf("%s shows %q (%v)", shut, text, err))
	}
	return wrong
}

// TestOutside runs as a process that the command of a sandbox starts.
func TestOutside(t *testing.T) {
	if Inside() {
		t.Error("a process that holds no life line takes itself for the command of a sandbox")
	}
}

// TestSandbox shows the host's files to the command, also those of /dev/shm, and lets it write into
// the folder that it is given alone.
func TestSandbox(t *testing.T) {
	if err := Check(context.Background()); err != nil {
		hosttest.Skip(t, "%v", err)
	}
	shared, err := os.MkdirTemp("/dev/shm", "ctload-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shared) })
	shut, path := filepath.Join(shared, "shut"), filepath.Join(shared, "open")
	note := filepath.Join(t.TempDir(), "note")
	err = errors.Join(os.Mkdir(shut, 0o700), os.Mkdir(path, 0o700),
		os.WriteFile(filepath.Join(shut, "seen"), []byte("seen"), 0o600),
		os.WriteFile(note, []byte("by descriptor"), 0o600))
	open, openErr := os.Open(path)
	file, noteErr := os.Open(note)
	if err := errors.Join(err, openErr, noteErr); err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	defer file.Close()
	give := Handover{Input: []byte("given"), Writable: []*os.File{open},
		Files: map[string]*os.File{"note": file}}
	status, err := Run(context.Background(), []string{path, shut}, give)
	if err != nil || status != 7 {
		t.Errorf("exit status %d, %v; want the command's own, 7", status, err)
	}
	if text, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(text) != "x" {
		t.Errorf("the folder that was handed over has %q (%v)", text, err)
	}
	// Another folder took its place: nothing may be written there.
	err = errors.Join(os.Rename(path, path+"-moved"), os.Mkdir(path, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if status, err := Run(context.Background(), []string{path, shut}, give); err != nil ||
		status == 7 {
		t.Errorf("a replaced folder: exit status %d, %v", status, err)
	}
}

// TestSandboxEndsWithItsContext kills a sandbox whose command would continue.
func TestSandboxEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, []string{"inside"}, Handover{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestMappings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "map")
	for _, tc := range []struct {
		text string
		want int
	}{
		{"         0          0 4294967295\n", 65535},
		{"         0       1000          1\n", 1},
		{"      1000       1000          1\n", 1},
		{"         0     100000      65536\n", 65535},
		{"         1     100001       9999\n         0       1000         10\n", 10},
		{"", 1},
		{"nonsense\n", 1},
	} {
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := rangeFromZero(file); got != tc.want {
			t.Errorf("range of %q: %d, want %d", tc.text, got, tc.want)
		}
	}
	m := mappings(1000, file)
	if len(m) != 1 || m[0].ContainerID != 1000 || m[0].HostID != 1000 || m[0].Size != 1 {
		t.Errorf("an ordinary user maps as %+v, want to themselves", m)
	}
	if m := mappings(0, file); m[0].ContainerID != 1 || m[0].HostID != 0 {
		t.Errorf("root maps as %+v, want to 1", m)
	}
}
