package journal

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
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
)

// keeperEnv makes the test binary act as a run that records an entry, makes the file that it names,
// and waits until it is killed.
const keeperEnv = "CTLOAD_TEST_KEEPER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(keeperEnv); folder != "" {
		os.Exit(keep(folder))
	}
	os.Exit(m.Run())
}

func keep(folder string) int {
	j, err := Create(folder, "keeper", os.Getpid())
	if err == nil {
		file := filepath.Join(folder, "thing-"+j.ID())
		err = errors.Join(j.Record(Entry{Kind: Path, Name: file}), os.WriteFile(file, nil, 0o600))
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString("ready\n")
	time.Sleep(time.Minute)
	return 1
}

// collectAll collects with the remover of files, and returns the findings without those of runs.
func collectAll(t *testing.T, folder string, dryRun bool) []Finding {
	t.Helper()
	var found []Finding
	err := Collect(t.Context(), Options{
		Folder: folder, DryRun: dryRun, Removers: map[Kind]Remover{Path: Paths{}},
		Tell: func(f Finding) { found = append(found, f) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func states(found []Finding) []State {
	var list []State
	for _, f := range found {
		list = append(list, f.State)
	}
	return list
}

func files(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestKilledRun checks that Collect leaves a living run alone and removes what a killed one made.
func TestKilledRun(t *testing.T) {
	folder := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), keeperEnv+"="+folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	got := collectAll(t, folder, false)
	if !cmp.Equal(states(got), []State{Alive}) || len(got[0].Has) != 1 ||
		got[0].Has[0].Kind != Path {
		t.Errorf("while it lives: %v", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := states(collectAll(t, folder, true)); !cmp.Equal(got, []State{There}) {
		t.Errorf("asked for after the kill: %v", got)
	}
	if got := files(t, folder); len(got) != 2 {
		t.Errorf("after a look: %v", got)
	}
	if got := states(collectAll(t, folder, false)); !cmp.Equal(got, []State{Removed}) {
		t.Errorf("collected: %v", got)
	}
	if got := files(t, folder); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// TestKilledWhileBegun has Collect remove a journal that never began, but none of a living run.
func TestKilledWhileBegun(t *testing.T) {
	folder := t.TempDir()
	begun, living := filepath.Join(folder, ".0011aabb"), filepath.Join(folder, ".2233ccdd")
	for _, path := range []string{begun, living} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(living)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	collectAll(t, folder, true)
	if _, err := os.Stat(begun); err != nil {
		t.Errorf("a dry run removed it: %v", err)
	}
	collectAll(t, folder, false)
	if _, err := os.Stat(begun); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a kill left is there: %v", err)
	}
	if _, err := os.Stat(living); err != nil {
		t.Errorf("the beginning of a run that lives is gone: %v", err)
	}
}

// TestCleanEnd checks that gone objects are not listed, and that a clean end removes the file.
func TestCleanEnd(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state", "runs")
	j, err := Create(folder, "clean", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	one, two := Entry{Kind: Domain, Where: "test:///default", Name: "a"},
		Entry{Kind: HostSetting, Name: "b", Detail: "1"}
	for _, err := range []error{j.Record(one), j.Record(one), j.Record(two), j.Gone(one)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := j.Left(); !cmp.Equal(got, []Entry{two}) {
		t.Errorf("left: %v", got)
	}
	if err := j.Gone(two); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, folder); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// TestLeft checks that a run that could not remove an object reports it, and that Collect finds it
// later.
func TestLeft(t *testing.T) {
	folder := t.TempDir()
	j, err := Create(folder, "stuck", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	stuck := Entry{Kind: Domain, Where: "qemu:///system", Name: "ctload-" + j.ID()}
	if err := j.Record(stuck); err != nil {
		t.Fatal(err)
	}
	var left *LeftError
	if err := j.Close(); !errors.As(err, &left) || !cmp.Equal(left.Left, []Entry{stuck}) {
		t.Errorf("closing says %v", err)
	}
	found, err := Dead(folder)
	if err != nil || !cmp.Equal(found, []Entry{stuck}) {
		t.Errorf("found %v, %v", found, err)
	}
	err = Collect(t.Context(), Options{Folder: folder, Tell: func(f Finding) {
		if f.State != Failed {
			t.Errorf("without a remover: %v", f)
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "cannot remove a domain") {
		t.Errorf("without a remover: %v", err)
	}
	var skipped []Finding
	if err := Collect(t.Context(), Options{
		Folder: folder, Only: func(e Entry) bool { return e.Where == "" },
		Tell: func(f Finding) { skipped = append(skipped, f) },
	}); err != nil || !cmp.Equal(states(skipped), []State{Skipped}) {
		t.Errorf("not meant: %v, %v", skipped, err)
	}
	if got := files(t, folder); len(got) != 1 {
		t.Errorf("its journal is gone: %v", got)
	}
}

// TestForeign checks that no remover touches a path without the run's id, whatever a journal says.
func TestForeign(t *testing.T) {
	folder, foreign := t.TempDir(), filepath.Join(t.TempDir(), "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	j, err := Create(folder, "foreign", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Record(Entry{Kind: Path, Name: foreign}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	err = Collect(t.Context(), Options{Folder: folder, Removers: map[Kind]Remover{Path: Paths{}},
		Tell: func(Finding) {}})
	if err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

// TestTornLine ends a journal within a line: the killed run had not made that object yet.
func TestTornLine(t *testing.T) {
	folder := t.TempDir()
	j, err := Create(folder, "torn", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	whole := Entry{Kind: Domain, Name: "whole"}
	if err := j.Record(whole); err != nil {
		t.Fatal(err)
	}
	if _, err := j.file.WriteString(`{"make":{"kind":"dom`); err != nil {
		t.Fatal(err)
	}
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := Dead(folder)
	if err != nil || !cmp.Equal(found, []Entry{whole}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// remembering removes objects of a list.
type remembering map[string]bool

func (r remembering) Exists(_ context.Context, _ Run, e Entry) (bool, error) {
	return r[e.Name], nil
}
func (r remembering) Remove(_ context.Context, _ Run, e Entry) error {
	delete(r, e.Name)
	return nil
}

// TestReboot checks that a reboot ends settings of the host and keeps objects on disk.
func TestReboot(t *testing.T) {
	folder := t.TempDir()
	j, err := Create(folder, "before", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(j.Record(Entry{Kind: HostSetting, Name: "a", Detail: "1"}),
		j.Record(Entry{Kind: Volume, Name: "b"}))
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	text, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), kernels.BootID(), "another-boot", 1)
	if err := os.WriteFile(j.path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	things := remembering{"a": true, "b": true}
	var got []State
	err = Collect(t.Context(), Options{
		Folder: folder, Removers: map[Kind]Remover{HostSetting: things, Volume: things},
		Tell: func(f Finding) { got = append(got, f.State) },
	})
	if err != nil || !cmp.Equal(got, []State{Removed, Absent}) || !things["a"] || things["b"] {
		t.Errorf("%v, %v, left %v", got, err, things)
	}
}

// FuzzParse checks that reading any journal ends, and that only recorded objects can be left.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"run":{"id":"0123abcd"}}
{"make":{"kind":"path","name":"/a"}}
{"gone":{"kind":"path","name":"/a"}}
`))
	f.Add([]byte("{}\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, left, _, err := parse(text)
		if err == nil && len(left) > strings.Count(strings.ToLower(string(text)), `"make"`) {
			t.Errorf("%d entries left of %q", len(left), text)
		}
	})
}
