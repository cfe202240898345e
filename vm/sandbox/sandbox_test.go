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
	if list, err := os.ReadDir(RuntimeDir); err != nil || len(list) > 0 {
		wrong = append(wrong, RuntimeDir+" is not empty")
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

func TestSandbox(t *testing.T) {
	if err := Check(context.Background()); err != nil {
		hosttest.Skip(t, "%v", err)
	}
	status, err := Run(context.Background(), []string{"inside"}, []byte("given"))
	if err != nil || status != 7 {
		t.Errorf("exit status %d, %v; want the command's own, 7", status, err)
	}
}

// TestSandboxEndsWithItsContext kills a sandbox whose command would continue.
func TestSandboxEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, []string{"inside"}, []byte("given")); !errors.Is(err, context.Canceled) {
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
