package guest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
)

const testKernel = "debian/bookworm"

// fakeApt replaces the host's apt; the files of a folder control it.
type fakeApt struct {
	t   *testing.T
	dir string
}

// newFakeApt puts the programs of testdata/bin before those of the host.
func newFakeApt(t *testing.T) *fakeApt {
	t.Helper()
	f := &fakeApt{t: t, dir: t.TempDir()}
	bin, err := filepath.Abs("testdata/bin")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("FAKE", f.dir)
	t.Setenv("CTLOAD_DEBIAN_MIRROR", "http://good.example/debian")
	f.version("6.1.1")
	return f
}

// version sets the version in the archive.
func (f *fakeApt) version(version string) {
	writeFile(f.t, filepath.Join(f.dir, "version"), version)
	writeFile(f.t, filepath.Join(f.dir, "image"), string(x86Image(version+"-test (a@b) #1 SMP")))
}

func (f *fakeApt) trouble(what string) { writeFile(f.t, filepath.Join(f.dir, "trouble"), what) }

// calls counts the calls of programs whose command line holds a word.
func (f *fakeApt) calls(word string) int {
	text, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	return strings.Count(string(text), " "+word)
}

// hanging waits until apt-get hangs and returns its process id.
func (f *fakeApt) hanging() int {
	f.t.Helper()
	var text []byte
	hosttest.Eventually(f.t, "apt-get is called", func() (called bool) {
		var err error
		text, err = os.ReadFile(filepath.Join(f.dir, "hanging"))
		return err == nil
	})
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// names lists the contents of the store.
func names(t *testing.T, s *Store) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir, "kernels"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantNames(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := names(t, s); !slices.Equal(got, want) {
		t.Errorf("the store has %q, want %q", got, want)
	}
}

func gone(pid int) bool {
	return hosttest.Poll(30*time.Second, func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestStoreFetchesOnce(t *testing.T) {
	apt := newFakeApt(t)
	var stages []string
	s := &Store{Dir: t.TempDir(), Progress: func(p Progress) {
		if p.Kernel != testKernel || p.Percent < 0 || p.Percent > 100 {
			t.Errorf("progress %+v", p)
		}
		stages = append(stages, p.Stage)
	}}
	k, err := s.Kernel(t.Context(), testKernel)
	if err != nil {
		t.Fatal(err)
	}
	entry := filepath.Join(s.Dir, "kernels/debian-bookworm_6.1.1-1")
	want := Kernel{
		Name: testKernel, Release: "6.1.1-test", Version: "6.1.1-1",
		Image: entry + "/boot/vmlinuz-6.1.1-test", ModuleDir: entry + "/lib/modules/6.1.1-test",
	}
	if k != want {
		t.Errorf("got %+v, want %+v", k, want)
	}
	if got := slices.Compact(stages); !slices.Equal(got, []string{"index", "download", "unpack"}) {
		t.Errorf("stages %q", got)
	}
	stored := []string{"debian-bookworm.json", "debian-bookworm.lock", "debian-bookworm_6.1.1-1"}
	wantNames(t, s, stored...)

	// From now on the test needs no program of the host.
	t.Setenv("PATH", t.TempDir())
	again, err := s.Kernel(t.Context(), testKernel)
	if err != nil || again != want {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if n := apt.calls("update"); n != 1 {
		t.Errorf("%d updates", n)
	}
	wantNames(t, s, stored...)
}

// flip changes a bit of the last byte of a file.
func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return errors.Join(err, errors.New("the file is empty"))
	}
	data[len(data)-1] ^= 1
	return os.WriteFile(path, data, 0o644)
}

// TestStoreDamaged damages a kernel on a host that cannot fetch it again: the error names the file.
func TestStoreDamaged(t *testing.T) {
	newFakeApt(t)
	s := &Store{Dir: t.TempDir()}
	k, err := s.Kernel(t.Context(), testKernel)
	if err == nil {
		err = flip(k.Image)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = s.Kernel(t.Context(), testKernel)
	if _, missing := errors.AsType[*MissingError](err); !missing ||
		!strings.Contains(err.Error(), k.Image+" is damaged: its contents have changed") {
		t.Errorf("got %v", err)
	}
}

func TestStoreRepairs(t *testing.T) {
	newFakeApt(t)
	for name, damage := range map[string]func(k Kernel, pointer string) error{
		"pointer cut off": func(_ Kernel, pointer string) error { return os.Truncate(pointer, 20) },
		"pointer empty":   func(_ Kernel, pointer string) error { return os.Truncate(pointer, 0) },
		"image lost":      func(k Kernel, _ string) error { return os.Remove(k.Image) },
		"image cut off":   func(k Kernel, _ string) error { return os.Truncate(k.Image, 100) },
		"image cut in half": func(k Kernel, _ string) error {
			info, err := os.Stat(k.Image)
			return errors.Join(err, os.Truncate(k.Image, info.Size()-1))
		},
		"bit of the image": func(k Kernel, _ string) error { return flip(k.Image) },
		"modules changed": func(k Kernel, _ string) error {
			return os.WriteFile(filepath.Join(k.ModuleDir, "modules.builtin"), []byte("x"), 0o644)
		},
		"sums unreadable": func(k Kernel, pointer string) error {
			entry := filepath.Join(filepath.Dir(pointer), "debian-bookworm_6.1.1-1")
			return os.Truncate(filepath.Join(entry, fileSums), 10)
		},
		"pointer leads out": func(k Kernel, pointer string) error {
			text, err := os.ReadFile(pointer)
			const name = "debian-bookworm_"
			out := strings.Replace(string(text), `"`+name, `"../kernels/`+name, 1)
			return errors.Join(err, os.WriteFile(pointer, []byte(out), 0o644))
		},
		"modules lost": func(k Kernel, _ string) error { return os.RemoveAll(k.ModuleDir) },
		"draft in the way": func(_ Kernel, pointer string) error {
			return errors.Join(os.WriteFile(pointer+".new", []byte("{"), 0o644), os.Remove(pointer))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Store{Dir: t.TempDir()}
			want, err := s.Kernel(t.Context(), testKernel)
			if err != nil {
				t.Fatal(err)
			}
			err = damage(want, filepath.Join(s.Dir, "kernels/debian-bookworm.json"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Kernel(t.Context(), testKernel); err != nil || got != want {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := KernelFiles(want.Image, want.ModuleDir); err != nil {
				t.Error(err)
			}
			wantNames(t, s, "debian-bookworm.json", "debian-bookworm.lock",
				"debian-bookworm_6.1.1-1")
		})
	}
}

func TestStoreTrouble(t *testing.T) {
	tests := []struct {
		name, trouble, mirror string
		want                  []string // in the error
	}{
		{"no network", "", "http://bad.example/debian",
			[]string{"Could not resolve 'bad.example'", "check the network",
				"CTLOAD_DEBIAN_MIRROR"}},
		{"disk full", "full", "", []string{"no space left on device", "free 500 MB"}},
		{"not what was signed", "hash", "", []string{"Hash Sum mismatch"}},
		{"no such package", "nothing", "", []string{"no package linux-image-cloud-amd64"}},
		{"damaged package", "damaged", "", []string{"dpkg-deb: ", "archive is damaged"}},
		{"package without a kernel", "empty", "", []string{"hold 0 of boot/vmlinuz-*"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			apt := newFakeApt(t)
			apt.trouble(tt.trouble)
			if tt.mirror != "" {
				t.Setenv("CTLOAD_DEBIAN_MIRROR", tt.mirror)
			}
			s := &Store{Dir: t.TempDir()}
			_, err := s.Kernel(t.Context(), testKernel)
			missing, ok := errors.AsType[*MissingError](err)
			if !ok || missing.Fix == "" {
				t.Fatalf("error %v, want a MissingError that says how to mend it", err)
			}
			for _, want := range append(tt.want, testKernel) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if n := strings.Count(err.Error(), "Could not resolve"); n > 1 {
				t.Errorf("error %q repeats itself", err)
			}
			wantNames(t, s, "debian-bookworm.lock")
			apt.trouble("")
			t.Setenv("CTLOAD_DEBIAN_MIRROR", "http://good.example/debian")
			if _, err := s.Kernel(t.Context(), testKernel); err != nil {
				t.Errorf("when the trouble is over: %v", err)
			}
		})
	}
}

func TestStoreWithoutApt(t *testing.T) {
	newFakeApt(t)
	t.Setenv("PATH", t.TempDir())
	_, err := (&Store{Dir: t.TempDir()}).Kernel(t.Context(), testKernel)
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || !strings.Contains(missing.Err.Error(), "apt-get") || missing.Fix == "" {
		t.Errorf("error %v", err)
	}
}

func TestStoreWithoutFolder(t *testing.T) {
	newFakeApt(t)
	for _, dir := range []string{"/dev/null/store", "/proc/store"} {
		_, err := (&Store{Dir: dir}).Kernel(t.Context(), testKernel)
		missing, ok := errors.AsType[*MissingError](err)
		if !ok || !strings.Contains(err.Error(), dir) || missing.Fix == "" {
			t.Errorf("%s: %v", dir, err)
		}
	}
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	_, err := new(Store).Kernel(t.Context(), testKernel)
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || !strings.Contains(missing.Fix, "XDG_CACHE_HOME") {
		t.Errorf("without a home: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	k, err := new(Store).Kernel(t.Context(), testKernel)
	if err != nil || !strings.HasPrefix(k.Image, dir+"/ctload/kernels/") {
		t.Errorf("image %s, %v; want it in %s", k.Image, err, dir)
	}
}

func TestStoreSharedByMany(t *testing.T) {
	apt := newFakeApt(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k, err := (&Store{Dir: dir}).Kernel(t.Context(), testKernel)
			if err != nil || k.Version != "6.1.1-1" {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
	wg.Wait()
	if n := apt.calls("download"); n != 1 {
		t.Errorf("%d downloads, want one for all", n)
	}
}

func TestStoreWaitsForAnother(t *testing.T) {
	newFakeApt(t)
	s := &Store{Dir: t.TempDir()}
	lock := filepath.Join(s.Dir, "kernels/debian-bookworm.lock")
	writeFile(t, lock, "")
	f, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waited := false
	s.Progress = func(p Progress) {
		if p.Stage == "wait" {
			waited = true
			cancel()
		}
	}
	_, err = s.Kernel(ctx, testKernel)
	if !errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "wait for another fetch of "+testKernel) {
		t.Errorf("error %v", err)
	}
	if !waited {
		t.Error("no progress was reported")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Kernel(t.Context(), testKernel); err != nil {
		t.Errorf("after the other is done: %v", err)
	}
}

func TestStoreCancelled(t *testing.T) {
	apt := newFakeApt(t)
	apt.trouble("hang")
	s := &Store{Dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Kernel(ctx, testKernel)
		done <- err
	}()
	pid := apt.hanging()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if _, ok := errors.AsType[*MissingError](err); ok {
			t.Errorf("an interrupted fetch says that the host lacks something: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a fetch goes on after it is cancelled")
	}
	if !gone(pid) {
		t.Error("apt-get goes on")
	}
	wantNames(t, s, "debian-bookworm.lock")
}

// TestStoreKilled kills a process during a fetch; the next one cleans up and fetches.
func TestStoreKilled(t *testing.T) {
	const helper = "CTLOAD_TEST_STORE"
	if dir := os.Getenv(helper); dir != "" {
		_, err := (&Store{Dir: dir}).Kernel(t.Context(), testKernel)
		t.Fatalf("not killed: %v", err)
	}
	apt := newFakeApt(t)
	apt.trouble("hang")
	s := &Store{Dir: t.TempDir()}
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoreKilled$")
	// It cannot clean up after itself.
	cmd.Env = append(os.Environ(), helper+"="+s.Dir, "TMPDIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := apt.hanging()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process was not killed")
	}
	if !gone(pid) {
		t.Error("apt-get outlives the process that started it")
	}
	left := names(t, s)
	if len(left) != 2 || !strings.HasPrefix(left[0], ".partial_debian-bookworm_") {
		t.Fatalf("left behind: %q, want a partial entry", left)
	}
	apt.trouble("")
	if _, err := s.Kernel(t.Context(), testKernel); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "debian-bookworm.json", "debian-bookworm.lock", "debian-bookworm_6.1.1-1")
}
