package vagrant

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/vm/guest"
)

// TestSSHConfig checks that ssh takes what Vagrant prints, and takes ctload's options first.
func TestSSHConfig(t *testing.T) {
	hosttest.Need(t, "ssh")
	config := filepath.Join(t.TempDir(), "ssh-config")
	const printed = `Host dut
  HostName 192.168.121.57
  User vagrant
  Port 2222
  StrictHostKeyChecking yes
  IdentityFile "/home/a b/insecure_private_key"
  OfAnotherVersion yes
  LogLevel FATAL
`
	if err := os.WriteFile(config, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", append([]string{"-G"}, endpoint(config).args()...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"hostname 192.168.121.57", "user vagrant", "port 2222", "stricthostkeychecking false",
		"identityfile /home/a b/insecure_private_key", "loglevel ERROR", "connecttimeout 10",
	} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("ssh has no %q in\n%s", want, out)
		}
	}
}

func TestSentence(t *testing.T) {
	got := sentence("Progress: 1%\rProgress: 100%\nThe box could not be found.\n\n  URL: x\n" +
		"\tfrom /usr/lib/x.rb:3:in 'call'\n  URL: x\n")
	if want := "Progress: 100% The box could not be found. URL: x"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// missing fails the test unless err says that the host lacks something, in the given words, with a
// fix.
func missing(t *testing.T, err error, words ...string) {
	t.Helper()
	lacking, ok := errors.AsType[*guest.MissingError](err)
	if !ok || lacking.Fix == "" {
		t.Errorf("%v; want what the host lacks, and what mends it", err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v lacks %q", err, word)
		}
	}
}

// pretend puts the test's own vagrant, a shell script, first into PATH.
func pretend(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "vagrant"), []byte("#!/bin/sh\n"+script), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestHostThatLacksSomething(t *testing.T) {
	t.Run("vagrant", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		missing(t, CheckHost(t.Context()), "no vagrant", "apt-get install")
	})
	hosttest.Need(t, "qemu-img", "dnsmasq", "ssh")
	t.Run("its plugin", func(t *testing.T) {
		pretend(t, "echo 'vagrant-other (1.0)'")
		missing(t, CheckHost(t.Context()), "no plugin vagrant-libvirt", "plugin install")
	})
	t.Run("a vagrant that works", func(t *testing.T) {
		pretend(t, "echo 'no ruby here' >&2; exit 1")
		missing(t, CheckHost(t.Context()), "does not work", "no ruby here")
	})
	t.Run("nothing", func(t *testing.T) {
		pretend(t, "echo 'vagrant-libvirt (0.11.2, system)'")
		if err := CheckHost(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestBoxThatCannotBeHad(t *testing.T) {
	tell := func(string) {}
	_, err := FindBox(t.Context(), "/nonexistent/x.box", t.TempDir(), tell)
	missing(t, err, "/nonexistent/x.box", "--box build")

	t.Setenv("VAGRANT_HOME", t.TempDir())
	pretend(t, "echo 'The box could not be found' >&2; exit 1")
	_, err = FindBox(t.Context(), "nobody/nothing", t.TempDir(), tell)
	missing(t, err, "nobody/nothing cannot be had", "could not be found", "--box build")
}

// TestBoxOfAFile adds a file once, and a changed file as another box.
func TestBoxOfAFile(t *testing.T) {
	cache := t.TempDir()
	file := filepath.Join(cache, "my.box")
	pretend(t, `while [ $# -gt 1 ]; do [ "$1" != --name ] || name=$2; shift; done
echo $name >>`+cache+`/added
box=$VAGRANT_HOME/boxes/$name/0/libvirt
mkdir -p $box && touch $box/metadata.json`)
	var names []string
	for _, content := range []string{"one", "one", "another"} {
		if old, err := os.ReadFile(file); err != nil || string(old) != content {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		box, err := FindBox(t.Context(), file, cache, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, box.Name)
		name, version := box.identity()
		if name != "my.box" || version == "" || !strings.HasSuffix(box.Name, version) {
			t.Errorf("%s is called %s %s", box.Name, name, version)
		}
	}
	added, err := os.ReadFile(filepath.Join(cache, "added"))
	if err != nil {
		t.Fatal(err)
	}
	diff := cmp.Diff([]string{names[0], names[2]}, strings.Fields(string(added)))
	if diff != "" || names[0] != names[1] || names[1] == names[2] {
		t.Errorf("names %q; added (-want +got):\n%s", names, diff)
	}
}

// TestVersionOfABox identifies a catalogue's box by its version: the newest installed, or the
// requested one.
func TestVersionOfABox(t *testing.T) {
	boxes := t.TempDir()
	folder := filepath.Join(boxes, "debian-VAGRANTSLASH-bookworm64")
	for _, version := range []string{"12.9.1", "12.20250126.1", "12.20240905.1"} {
		if err := os.MkdirAll(filepath.Join(folder, version, "libvirt"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "metadata_url"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	box := Box{Name: "debian/bookworm64", Given: "debian/bookworm64", boxes: boxes}
	if name, version := box.identity(); name != "debian/bookworm64" || version != "12.20250126.1" {
		t.Errorf("%s %s", name, version)
	}
	t.Setenv("CTLOAD_BOX_VERSION", "12.9.1")
	if _, version := box.identity(); version != "12.9.1" {
		t.Errorf("version %s, and 12.9.1 was asked for", version)
	}
}

// TestVagrantThatHangs ends a vagrant that hangs, with the processes that it has started.
func TestVagrantThatHangs(t *testing.T) {
	pretend(t, "sleep 600 & sleep 600")
	s, err := newState(filepath.Join(t.TempDir(), "state"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err = s.run(t.Context(), 200*time.Millisecond, "up")
	if err == nil || !strings.Contains(err.Error(), "did not end within 200ms") ||
		time.Since(begun) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.run(ctx, time.Minute, "up"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// TestVagrantWithoutLog takes the user's VAGRANT_LOG away: a log would mix with the output, and an
// empty setting makes `vagrant box add` fail (vagrant_cloud 3.0.5).
func TestVagrantWithoutLog(t *testing.T) {
	t.Setenv("VAGRANT_LOG", "debug")
	pretend(t, "echo ${VAGRANT_LOG-unset}")
	s, err := newState(filepath.Join(t.TempDir(), "state"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if said, err := s.run(t.Context(), time.Minute, "up"); said != "unset\n" || err != nil {
		t.Errorf("VAGRANT_LOG is %q, %v; want it unset", said, err)
	}
}

// TestVagrantfile checks that the Vagrantfile at the top of the repository is the one here, and
// that Vagrant accepts it, on every path through it.
func TestVagrantfile(t *testing.T) {
	top, err := os.ReadFile("../../Vagrantfile")
	if err != nil {
		t.Fatal(err)
	}
	if string(top) != string(vagrantfile) {
		t.Error("the Vagrantfile at the top differs from this package's")
	}
	hosttest.Need(t, "vagrant")
	for name, env := range map[string][]string{
		"as it is": nil,
		"router": {"CTLOAD_ROUTER=1", "CTLOAD_BOX=generic/ubuntu2204", "CTLOAD_MEMORY=1024",
			"CTLOAD_CPU=Nehalem"},
		"as ctload does": {"CTLOAD_BRIDGES=a,b,c", "CTLOAD_ROUTER=1", "CTLOAD_ADDRESSES=0",
			"CTLOAD_CONSOLE=/c", "CTLOAD_POOL=/p", "CTLOAD_BOX=/x/y.box"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newState(filepath.Join(t.TempDir(), "state"), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			s.env = env
			_, err = s.run(t.Context(), 2*time.Minute, "validate", "--ignore-provider")
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBoxTriesDownloadsAgain gives the script that builds boxes an mmdebstrap that fails: it tries
// a download three times, other steps once, and the error holds apt's message.
func TestBoxTriesDownloadsAgain(t *testing.T) {
	const fetch = "echo 'Err:1 http://mirror.example bookworm InRelease'; " +
		"echo '  502 Bad Gateway'; echo 'E: apt-get update failed'"
	for name, tc := range map[string]struct {
		script   string // of mmdebstrap, at its n-th start
		attempts int
		said     string
	}{
		"each download fails": {fetch, 3, "502 Bad Gateway"},
		"one download fails": {"case $n in 1) " + fetch + ";; *) echo 'E: no such suite';; esac",
			2, "no such suite"},
		"no download fails": {"echo 'dpkg: error: out of cheese'; echo 'E: run_chroot failed'", 1,
			"out of cheese"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			count := filepath.Join(dir, "count")
			for program, script := range map[string]string{
				"mmdebstrap": "echo >>" + count + "; n=$(wc -l <" + count + "); { " + tc.script +
					"; } >&2; exit 1",
				"sleep": "", "mke2fs": "", "qemu-img": "", "fakeroot": "", "newuidmap": "",
			} {
				err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script),
					0o755)
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			boxes := filepath.Join(dir, "boxes")
			missing(t, build(t.Context(), filepath.Join(boxes, "built.box"), func(string) {}),
				"could not be built", tc.said)
			starts, err := os.ReadFile(count)
			if err != nil || len(starts) != tc.attempts {
				t.Errorf("%d attempts, %v; want %d", len(starts), err, tc.attempts)
			}
			if left, err := os.ReadDir(boxes); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestScripts checks that the shell accepts the scripts.
func TestScripts(t *testing.T) {
	for name, script := range map[string]string{"box": boxScript, "prepare.sh": prepareScript} {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
