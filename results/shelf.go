package results

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// RunsFolder is the folder into which runs go unless the user says otherwise.
const RunsFolder = "runs"

// LatestRun names the run of a folder that began last.
const LatestRun = "latest"

// Listed is a run in a folder of runs.
type Listed struct {
	Path   string // of its folder
	Run    *Run
	Search bool // a search made it: its scenarios are the values that it tried
}

// Name returns the name of the run's folder.
func (l Listed) Name() string { return filepath.Base(l.Path) }

// ListRuns reads the runs in a folder, the oldest first. A run that cannot be read is in unread; a
// missing folder has none.
func ListRuns(dir string) (list []Listed, unread []error, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("listing the runs in %s: %w", dir, err)
	}
	for _, entry := range entries {
		l, err := listed(filepath.Join(dir, entry.Name()))
		switch {
		case errors.Is(err, errNoRun):
		case err != nil:
			unread = append(unread, err)
		default:
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b Listed) int {
		return cmp.Or(a.Run.Started.Compare(b.Run.Started), cmp.Compare(a.Path, b.Path))
	})
	return list, unread, nil
}

func listed(path string) (l Listed, err error) {
	folder, err := Open(path)
	if err != nil {
		return l, err
	}
	defer folder.Close()
	run, err := folder.Load()
	if err != nil {
		return l, err
	}
	_, err = folder.root.Stat(fileSearch)
	return Listed{path, run, err == nil}, nil
}

// FindRun returns the path of the run that a user names: the path of a folder or of its run.json,
// the name of a folder in dir, latest for the run in dir that began last, or the name of an
// experiment for the last run of that. NAME~N stands for the N-th run before the one that latest or
// an experiment names.
func FindRun(dir, name string) (string, error) {
	folder, err := Open(name)
	if err == nil {
		return name, folder.Close()
	}
	_, missing := os.Stat(name)
	if !errors.Is(err, errNoRun) || missing == nil || filepath.Base(name) != name { // a path
		return "", err
	}
	list, _, err := ListRuns(dir)
	if err != nil {
		return "", err
	}
	word, back := name, 0
	if before, count, found := strings.Cut(name, "~"); found {
		if back, err = strconv.Atoi(count); err != nil || back < 0 {
			return "", fmt.Errorf("%q names no run: write %s~1 for the run before the last one",
				name, cmp.Or(before, LatestRun))
		}
		word = before
	}
	known := []string{LatestRun}
	var of []Listed
	for _, l := range list {
		if l.Name() == name {
			return l.Path, nil
		}
		known = append(known, l.Name(), l.Run.Experiment)
		if word == LatestRun || l.Run.Experiment == word && !l.Search {
			of = append(of, l)
		}
	}
	switch {
	case len(of) == 0 && word == LatestRun:
		return "", fmt.Errorf("there is no run in %s", dir)
	case len(of) == 0:
		slices.Sort(known)
		known = slices.Compact(known)
		return "", fmt.Errorf("%q is neither the folder of a run nor, in %s, the name of a run "+
			"or of an experiment%s", name, dir, spelling.Hint(word, known))
	case back >= len(of):
		return "", fmt.Errorf("%s: %s has %d of these runs", name, dir, len(of))
	}
	return of[len(of)-1-back].Path, nil
}
