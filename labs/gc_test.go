package labs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
)

// changerEnv makes the test binary act as a run that changes the host: it records in this folder
// that it does, and waits for its end. It changes nothing.
const changerEnv = "CTLOAD_TEST_CHANGER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(changerEnv); folder != "" {
		os.Exit(change(folder))
	}
	os.Exit(m.Run())
}

func change(folder string) int {
	j, err := journal.Create(folder, "the other user's run", os.Getpid())
	if err == nil {
		// The former value is not the present one, whatever that is.
		err = j.Record(journal.Entry{
			Kind: journal.HostSetting, Name: kernels.KeyMax, Detail: "12345",
		})
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString("ready\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 1
}

// TestHostChanges_OfAnotherUser runs beside, and after, a run of another user with another state
// folder that changes this host: no run measures then, and gc finds what was left.
func TestHostChanges_OfAnotherUser(t *testing.T) {
	before := hostFolder
	t.Cleanup(func() { hostFolder = before })
	hostFolder = filepath.Join(t.TempDir(), "registry")
	if err := journal.MakeHostFolder(hostFolder); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	check := func(want string) {
		t.Helper()
		err := Order{}.restoreHost(t.Context())
		switch _, missing := errors.AsType[*guest.MissingError](err); {
		case want == "" && err != nil:
			t.Errorf("refused: %v", err)
		case want != "" && (!missing || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check("")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), changerEnv+"="+hostFolder)
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if _, err := stdout.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	check("another run (the other user's run")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	check("a killed run has left this host changed: host-setting " + kernels.KeyMax)

	var found []journal.Finding
	gc := func() {
		t.Helper()
		found = nil
		tell := func(f journal.Finding) { found = append(found, f) }
		if err := Collect(t.Context(), nil, true, tell); err != nil {
			t.Fatal(err)
		}
	}
	gc()
	if len(found) != 1 || found[0].State != journal.There || found[0].Entry.Detail != "12345" {
		t.Errorf("gc finds %+v", found)
	}
	files, err := filepath.Glob(filepath.Join(hostFolder, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("other users cannot read the journal: %v, %v", info.Mode(), err)
	}
	// A record that was cut off may have been whole.
	if err := os.Truncate(files[0], info.Size()-20); err != nil {
		t.Fatal(err)
	}
	check("what a torn record names")
	gc()
	if len(found) != 1 || found[0].State != journal.Torn ||
		!strings.Contains(found[0].Torn, kernels.KeyMax) {
		t.Errorf("gc finds %+v", found)
	}
}
