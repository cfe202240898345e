package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// TestOrdinaryUser runs as the user nobody, from the kernel's download on. Without root, every
// other test already runs as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	needsLab(t)
	if os.Getuid() != 0 {
		t.Log("this test is run by an ordinary user: so are all others")
		return
	}
	o := asNobody(t, fmt.Sprintf(small, 200), func(string) []string {
		return []string{labtest.Retries}
	})
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	if trial := decode(t, o.stdout).Scenarios[0].Trials[0]; trial.Load.Done() != 200 {
		t.Errorf("completed %d of 200: %s", trial.Load.Done(), trial.Sentence)
	}
	if !strings.Contains(o.stderr, "run folder:") {
		t.Errorf("the run folder is not named:\n%s", o.stderr)
	}
}

// asNobody runs an experiment as the user nobody, with the flags that more returns for that user's
// home. It needs root.
func asNobody(t *testing.T, text string, more func(home string) []string) outcome {
	t.Helper()
	hosttest.Need(t, "unshare", "mount", "setpriv")
	path := labtest.Ctload(t)
	// Not in t.TempDir(), which only root may enter.
	home, err := os.MkdirTemp("/tmp", "ctload-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	program, file := filepath.Join(home, "ctload"), filepath.Join(home, "experiment.yaml")
	copyFile(t, path, program, 0o755)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// A host may keep /dev/net/tun to root; its users then cannot run a lab. This script opens it
	// in a mount namespace of the test's own.
	const script = `set -e
home=$1; shift
mknod "$home/tun" c 10 200
chmod 0666 "$home/tun"
mount --bind "$home/tun" /dev/net/tun
chown nobody "$home"
cd "$home"
exec env HOME="$home" XDG_CACHE_HOME="$home/cache" \
	setpriv --reuid nobody --regid nogroup --clear-groups \
	"$home/ctload" run "$home/experiment.yaml" --format json "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh", home},
		more(home)...)...)
	cmd.Dir = home
	return finish(t, cmd, 10*time.Minute)
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		t.Fatal(err)
	}
}
