package results

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

// strangers makes a run folder in which one file is replaced.
func strangers(t *testing.T, name string, replace func(path string) error) (*Folder, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	trial, err := f.CreateTrial("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	run := &Run{Schema: SchemaVersion, Scenarios: []Scenario{{
		Name: "a", Trials: []Trial{{Number: 1, Folder: trial.Name()}}}}}
	err = errors.Join(f.Save(run), f.SaveExperiment([]byte("experiment: x\n")),
		trial.SaveText(FileSamples, "{}\n"), trial.SaveText(fileProbe, "{}\n"),
		trial.SaveText(FileHistograms, "{}"), f.Close())
	path := filepath.Join(dir, name)
	if err == nil {
		err = os.RemoveAll(path)
	}
	if err == nil {
		err = replace(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Open(dir)
}

// readAll reads everything that a report may read.
func readAll(f *Folder, openErr error) error {
	if openErr != nil {
		return openErr
	}
	defer f.Close()
	run, err := f.Load()
	if err != nil {
		return err
	}
	_, err = f.Experiment()
	trial := &run.Scenarios[0].Trials[0]
	_, _, seriesErr := f.Series(trial)
	_, histogramErr := f.Distributions(trial)
	return errors.Join(err, seriesErr, histogramErr)
}

// TestHostileFolder reads run folders of strangers: links that lead out of them, devices, FIFOs and
// endless files are errors, and none of them hangs or fills the memory.
func TestHostileFolder(t *testing.T) {
	if err := readAll(strangers(t, "notes", func(string) error { return nil })); err != nil {
		t.Fatalf("an honest folder: %v", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := []string{"run.json", "experiment.yaml", "trials/a-1/samples.jsonl",
		"trials/a-1/probe.jsonl", "trials/a-1/histograms.json"}
	for kind, replace := range map[string]func(string) error{
		"link out":       func(path string) error { return os.Symlink(secret, path) },
		"link to a pipe": func(path string) error { return os.Symlink("/dev/zero", path) },
		"FIFO":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder":         func(path string) error { return os.Mkdir(path, 0o700) },
		"endless": func(path string) error {
			err := os.WriteFile(path, nil, 0o600)
			return errors.Join(err, os.Truncate(path, maxSeries+1))
		},
	} {
		for _, name := range files {
			if kind == "endless" && strings.HasPrefix(name, "trials/a-1/s") {
				continue // read whole: half a gigabyte
			}
			if kind == "endless" && strings.HasPrefix(name, "trials/a-1/p") && !hosttest.Long() {
				continue // it takes ten seconds
			}
			t.Run(fmt.Sprintf("%s %s", filepath.Base(name), kind), func(t *testing.T) {
				if err := readAll(strangers(t, name, replace)); err == nil {
					t.Error("it was read")
				}
			})
		}
	}
	t.Run("trial elsewhere", func(t *testing.T) {
		elsewhere := t.TempDir()
		if err := os.WriteFile(filepath.Join(elsewhere, FileSamples), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		replace := func(path string) error { return os.Symlink(elsewhere, path) }
		if err := readAll(strangers(t, "trials/a-1", replace)); err == nil {
			t.Error("it was read")
		}
	})
	t.Run("many trials", func(t *testing.T) {
		text := `{"scenarios":[{"name":"a","trials":[{}` + strings.Repeat(",{}", maxTrials) + "]}]}"
		replace := func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
		err := readAll(strangers(t, "run.json", replace))
		if err == nil || !strings.Contains(err.Error(), "more than 100000") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a run that is a FIFO", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run.json")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{path, filepath.Dir(path)} {
			f, err := Open(at)
			if err == nil {
				_, err = f.Load()
			}
			if err == nil {
				t.Errorf("%s was read", at)
			}
		}
	})
}

// TestFolder_Rights: a run folder is the user's alone, or as open as the user made it before.
func TestFolder_Rights(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o755)); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string][2]fs.FileMode{
		filepath.Join(t.TempDir(), "new", "run"): {0o700, 0o600},
		open:                                     {0o755, 0o644},
	} {
		f, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		trial, err := f.CreateTrial("a", 1)
		if err != nil {
			t.Fatal(err)
		}
		samples, err := trial.Samples()
		err = errors.Join(err, samples.Close(), f.Save(&Run{}), trial.SaveText(FileKernelLog, "x"))
		if err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]fs.FileMode{
			"": want[0], "trials": want[0], "trials/a-1": want[0], "run.json": want[1],
			"trials/a-1/kernel.log": want[1], "trials/a-1/samples.jsonl": want[1],
		} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%q has the rights %v, want %v (%v)", name, info.Mode().Perm(), mode, err)
			}
		}
	}
}

// TestCreate_AtOnce makes many runs at once: under a name that ctload chose, each gets a folder of
// its own; under a name that the user chose, one gets it.
func TestCreate_AtOnce(t *testing.T) {
	const many = 20
	for _, tc := range []struct {
		name   string
		create func(string) (*Folder, error)
		want   int
	}{{"chosen by ctload", CreateFree, many}, {"chosen by the user", Create, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "runs", "x")
			var group sync.WaitGroup
			var mu sync.Mutex
			paths := map[string]bool{}
			for range many {
				group.Go(func() {
					if f, err := tc.create(dir); err == nil {
						mu.Lock()
						defer mu.Unlock()
						paths[f.Path()] = true
					}
				})
			}
			group.Wait()
			if len(paths) != tc.want {
				t.Errorf("%d folders, want %d", len(paths), tc.want)
			}
		})
	}
}
