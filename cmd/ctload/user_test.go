package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/vm/journal"
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
	home := homeOfNobody(t)
	file := filepath.Join(home, "experiment.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", file, "--format", "json"}, more(home)...)
	return finish(t, nobody(t, home, "", args...), 10*time.Minute)
}

// homeOfNobody makes a folder with ctload in it.
func homeOfNobody(t *testing.T) (home string) {
	t.Helper()
	// Not in t.TempDir(), which only root may enter.
	home, err := os.MkdirTemp("/tmp", "ctload-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	copyFile(t, labtest.Ctload(t), filepath.Join(home, "ctload"), 0o755)
	return home
}

// nobody returns a command of the user nobody, for whom /run/ctload is the folder registry, or is
// as it is without one. It needs root.
func nobody(t *testing.T, home, registry string, args ...string) *exec.Cmd {
	t.Helper()
	hosttest.Need(t, "unshare", "mount", "setpriv")
	// A host may keep /dev/net/tun to root; its users then cannot run a lab. This script opens it
	// in a mount namespace of the test's own.
	const script = `set -e
home=$1 registry=$2; shift 2
if [ "$registry" ]; then
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir /run/ctload
	mount --bind "$registry" /run/ctload
fi
[ -e "$home/tun" ] || mknod "$home/tun" c 10 200
chmod 0666 "$home/tun"
mount --bind "$home/tun" /dev/net/tun
chown nobody "$home"
cd "$home"
exec env HOME="$home" XDG_CACHE_HOME="$home/cache" \
	setpriv --reuid nobody --regid nogroup --clear-groups "$home/ctload" "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh", home,
		registry}, args...)...)
	cmd.Dir = home
	return cmd
}

// TestHostRegistry_OfAnotherUser records, as root does before it changes the host, a change that is
// not made. A run of another user measures neither beside it nor after the death of its run, and
// names what ends that.
func TestHostRegistry_OfAnotherUser(t *testing.T) {
	needsLab(t)
	if os.Getuid() != 0 {
		t.Log("only root changes a host")
		return
	}
	home, registry := homeOfNobody(t), filepath.Join(t.TempDir(), "registry")
	if err := journal.MakeHostFolder(registry); err != nil {
		t.Fatal(err)
	}
	changer, err := journal.Create(registry, "of root", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	err = changer.Record(journal.Entry{
		Kind: journal.HostSetting, Name: kernels.KeyMax, Detail: "12345", // not the present value
	})
	if err != nil {
		t.Fatal(err)
	}
	run := []string{"run", "tracking-cost", "--driver", "netns"}
	refuses := func(when string, says ...string) {
		t.Helper()
		o := finish(t, nobody(t, home, registry, run...), time.Minute)
		for _, want := range says {
			if o.status != statusHost || !strings.Contains(o.stderr, want) {
				t.Errorf("%s: exit status %d, want %d and %q\n%s", when, o.status, statusHost, want,
					o.stderr)
			}
		}
	}
	refuses("beside it", "another run (of root, process")
	if _, left := errors.AsType[*journal.LeftError](changer.Close()); !left { // as a kill ends it
		t.Fatal("the change is not recorded")
	}
	refuses("after its death", kernels.KeyMax+" (was 12345)", "sudo ctload gc")
	o := finish(t, nobody(t, home, registry, "gc"), time.Minute)
	if !strings.Contains(o.stdout, "there ") || !strings.Contains(o.stdout, kernels.KeyMax) {
		t.Errorf("gc of the other user: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
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
