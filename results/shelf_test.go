package results

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shelve writes a run into a folder of runs.
func shelve(t *testing.T, dir, name, experiment string, hour int) {
	t.Helper()
	f, err := Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run := &Run{
		Schema: SchemaVersion, Experiment: experiment,
		Started: time.Date(2026, 11, 20, hour, 0, 0, 0, time.UTC),
		Tags:    map[string]string{"branch": "main"},
	}
	if err := f.Save(run); err != nil {
		t.Fatal(err)
	}
}

func TestFindRun(t *testing.T) {
	dir := t.TempDir()
	shelve(t, dir, "web-b", "web", 2)
	shelve(t, dir, "web-a", "web", 3) // the newest, whatever its name
	shelve(t, dir, "dns-a", "dns", 1)
	shelve(t, dir, "searched", "dns", 0)
	search := filepath.Join(dir, "searched", fileSearch)
	if err := os.WriteFile(search, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "no-run"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"latest": "web-a", "latest~1": "web-b", "latest~2": "dns-a", "latest~0": "web-a",
		"web": "web-a", "web~1": "web-b", "dns": "dns-a", "dns-a": "dns-a",
		filepath.Join(dir, "web-b"): "web-b",
	} {
		path, err := FindRun(dir, name)
		if err != nil || filepath.Base(filepath.Clean(path)) != want {
			t.Errorf("%s: %s, %v; want %s", name, path, err, want)
		}
	}
	if path, err := FindRun(dir, filepath.Join(dir, "web-b", "run.json")); err != nil ||
		filepath.Base(path) != "run.json" {
		t.Errorf("a run.json: %s, %v", path, err)
	}
	for name, want := range map[string]string{
		"latest~9": "has 4 of these runs", "latest~x": "write latest~1",
		"wbe-a": `did you mean "web-a"`, filepath.Join(dir, "no-run"): "run.json is missing",
		"dns~1": "has 1 of these runs",
	} {
		if path, err := FindRun(dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", name, path, err)
		}
	}
	if _, err := FindRun(filepath.Join(dir, "missing"), "latest"); err == nil ||
		!strings.Contains(err.Error(), "there is no run in") {
		t.Errorf("an empty shelf: %v", err)
	}
}

func TestListRuns(t *testing.T) {
	dir := t.TempDir()
	shelve(t, dir, "b", "web", 1)
	shelve(t, dir, "a", "web", 2)
	shelve(t, dir, "broken", "web", 3)
	if err := os.WriteFile(filepath.Join(dir, "broken", fileRun), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, unread, err := ListRuns(dir)
	if err != nil || len(list) != 2 || list[0].Name() != "b" || list[1].Name() != "a" ||
		len(unread) != 1 {
		t.Errorf("%+v, %v, %v", list, unread, err)
	}
	if list[0].Run.Tags["branch"] != "main" {
		t.Errorf("tags: %v", list[0].Run.Tags)
	}
}
