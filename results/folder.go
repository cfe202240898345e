package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Folder is the folder of a run on disk. The run writes it as it goes on, so that a crash loses no
// measurement:
//
//	experiment.yaml               the experiment as run, defaults and overrides filled in
//	run.json                      the model; replaced as a whole after each trial
//	search.json                   of a search: what is known of each limit; likewise
//	trials/<scenario>-<n>/        one for each trial, n from 1 in the scenario
//	    samples.jsonl             a Sample on each line
//	    probe.jsonl               a ProbeSample on each line
//	    actions.jsonl             an ActionEvent on each line, written before what it announces
//	    kernel.log                the DUT's kernel log during the trial
//	    console.log               the DUT's serial console
//	    readback.json             settings and rules as read back, before and after
//	    histograms.json           what each entry's generator kept, latency histograms among it
//
// A file that a driver cannot provide is absent.
//
// A folder may come from a stranger: no link leads out of it, and only regular files of bounded
// size are read. Its files have the rights of the folder itself: a new one is the user's alone.
type Folder struct {
	path string
	root *os.Root
	dir  *os.File    // holds the lock of a run under way; nil where a run is only read
	mode fs.FileMode // of the folders in it
}

// Names of the files of a run folder.
const (
	fileExperiment = "experiment.yaml"
	fileRun        = "run.json"
	fileSearch     = "search.json"
	FileSamples    = "samples.jsonl"
	fileProbe      = "probe.jsonl"
	FileActions    = "actions.jsonl"
	FileKernelLog  = "kernel.log"
	FileConsole    = "console.log"
	FileReadback   = "readback.json"
	FileHistograms = "histograms.json"
	dirTrials      = "trials"
)

// errNoRun is the error of [Open] for a path that holds no run.
var errNoRun = errors.New("no run there")

// CheckNew refuses the path of a run folder that [Create] could not make.
func CheckNew(dir string) error {
	list, err := os.ReadDir(dir)
	switch {
	case err == nil && len(list) > 0:
		return fmt.Errorf("the run folder %s is not empty; two runs never mix", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the run folder %s: %w", dir, err)
	}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err != nil:
			return fmt.Errorf("the run folder %s: %w", dir, err)
		case !info.IsDir():
			return fmt.Errorf("the run folder %s: %s is no folder", dir, at)
		case unix.Access(at, unix.W_OK|unix.X_OK) != nil:
			return fmt.Errorf("the run folder %s: %s cannot be written", dir, at)
		}
		return nil
	}
}

// errBusy is the error of [Create] and [Resume] while another process writes the run.
var errBusy = errors.New("another ctload is writing into it")

// Create makes the folder of a new run, with its parents, and locks it until [Folder.Close]. It
// must be empty: two runs never mix. A folder that exists keeps its rights.
func Create(dir string) (*Folder, error) {
	if err := CheckNew(dir); err != nil {
		return nil, err
	}
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, diskError("creating the run folder", err)
	}
	return create(dir)
}

// CreateFree makes the folder of a new run as [Create] does, under the first of the names dir,
// dir-2, dir-3 and so on that is free.
func CreateFree(dir string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, diskError("creating the run folder", err)
	}
	name := dir
	for n := 2; ; n++ {
		err := os.Mkdir(name, 0o700)
		if err == nil {
			return create(name)
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, diskError("creating the run folder", err)
		}
		name = dir + "-" + strconv.Itoa(n)
	}
}

// create opens and locks an empty folder.
func create(dir string) (*Folder, error) {
	f, err := openLocked(dir)
	if err != nil {
		return nil, err
	}
	// Another process may have begun a run there since it was looked at.
	if err := CheckNew(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.root.Mkdir(dirTrials, f.mode); err != nil {
		return nil, errors.Join(diskError("creating the run folder", err), f.Close())
	}
	return f, nil
}

// openLocked opens a folder for writing.
func openLocked(dir string) (*Folder, error) {
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	if f.dir, err = f.root.Open("."); err == nil {
		err = unix.Flock(int(f.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errBusy
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the run folder %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func openFolder(dir string) (*Folder, error) {
	info, err := os.Stat(dir) // a FIFO would hang
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the run folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the run folder: %w", err)
	}
	return &Folder{path: dir, root: root, mode: info.Mode().Perm() | 0o700}, nil
}

// Attach opens the folder of a run that another process has created, locked, and handed over.
func Attach(dir string) (*Folder, error) { return openFolder(dir) }

// Open opens the folder of an earlier run for reading. The path may be that of its run.json.
func Open(path string) (*Folder, error) {
	dir := path
	if filepath.Base(path) == fileRun {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			dir = filepath.Dir(path)
		}
	}
	_, err := os.Stat(filepath.Join(dir, fileRun))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("opening the run %s: %w (%s is missing)", path, errNoRun, fileRun)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the run: %w", err)
	}
	return openFolder(dir)
}

// Resume opens the folder of an unfinished run to go on with it, and locks it. It returns the run
// without the trials that an interrupt ended, and removes the folders of trials that are not in it.
func Resume(path string) (*Folder, *Run, error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	dir := f.path
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	if f, err = openLocked(dir); err != nil {
		return nil, nil, err
	}
	run, err := f.Load()
	if err == nil {
		err = f.rewind(run)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, run, nil
}

// rewind removes the trials that a run began and did not finish.
func (f *Folder) rewind(run *Run) error {
	_, noSearch := f.read(fileSearch, maxFile) // whose trials are not planned
	if run.ended() || run.Planned == 0 && noSearch != nil {
		return fmt.Errorf("the run %s is finished: there is nothing to resume", f.path)
	}
	run.Rewind()
	made := map[string]bool{}
	for _, s := range run.Scenarios {
		for _, t := range s.Trials {
			made[path.Clean(t.Folder)] = true
		}
	}
	trials, err := f.root.Open(dirTrials)
	if err != nil {
		return fmt.Errorf("resuming the run: %w", err)
	}
	names, err := trials.Readdirnames(-1)
	err = errors.Join(err, trials.Close())
	for _, name := range names {
		if folder := dirTrials + "/" + name; !made[folder] {
			err = errors.Join(err, f.root.RemoveAll(folder))
		}
	}
	if err != nil {
		return fmt.Errorf("resuming the run: %w", err)
	}
	return f.Save(run)
}

// Close releases the folder, and its lock.
func (f *Folder) Close() error {
	err := f.root.Close()
	if f.dir != nil {
		err = errors.Join(err, f.dir.Close())
	}
	return err
}

// Directory returns the open folder, to be handed over to another process; nil where the run is
// only read.
func (f *Folder) Directory() *os.File { return f.dir }

// Path returns the folder's path as given.
func (f *Folder) Path() string { return f.path }

// SaveExperiment writes the experiment as run.
func (f *Folder) SaveExperiment(yaml []byte) error {
	return f.writeBytes(fileExperiment, yaml)
}

// Experiment returns the experiment as run.
func (f *Folder) Experiment() ([]byte, error) {
	data, err := f.read(fileExperiment, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the experiment as run: %w", err)
	}
	return data, nil
}

// Save replaces run.json as a whole: readers see the old or the new one, also after a crash.
func (f *Folder) Save(run *Run) error {
	return f.writeWhole(fileRun, func(w io.Writer) error { return Encode(w, run) })
}

// Load reads run.json, of this or an older schema.
func (f *Folder) Load() (run *Run, err error) {
	data, err := f.read(fileRun, maxFile)
	if err != nil {
		return nil, fmt.Errorf("opening the run: %w", err)
	}
	if run, err = decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(f.path, fileRun), err)
	}
	return run, nil
}

// SaveSearch replaces search.json as a whole, by the report of a search.
func (f *Folder) SaveSearch(report any) error {
	return f.writeWhole(fileSearch, func(w io.Writer) error { return WriteJSON(w, report) })
}

// LoadSearch reads search.json into the report of a search; an fs.ErrNotExist without one.
func (f *Folder) LoadSearch(report any) error {
	data, err := f.read(fileSearch, maxFile)
	if err == nil {
		err = json.Unmarshal(data, report)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(f.path, fileSearch), err)
	}
	return nil
}

var folderName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@=-]*$`)

// CreateTrial makes the folder of a trial; number counts from 1. The scenario's name may hold only
// letters, digits, and . - _ @ =.
func (f *Folder) CreateTrial(scenario string, number int) (*TrialFolder, error) {
	const what = "creating the folder of a trial"
	if !folderName.MatchString(scenario) {
		return nil, fmt.Errorf("%s: scenario %q cannot name a folder", what, scenario)
	}
	if number < 1 {
		return nil, fmt.Errorf("%s: number %d is not from 1", what, number)
	}
	name := fmt.Sprintf("%s/%s-%d", dirTrials, scenario, number)
	if err := f.root.Mkdir(name, f.mode); err != nil {
		return nil, diskError(what, err)
	}
	return &TrialFolder{of: f, name: name}, nil
}

// TakeOver copies the folder of a trial from another run, under the same name.
func (f *Folder) TakeOver(from *Folder, t *Trial) error {
	what := fmt.Sprintf("copying %s of %s", t.Folder, from.path)
	name, in := strings.CutPrefix(t.Folder, dirTrials+"/")
	if !in || !folderName.MatchString(name) {
		return fmt.Errorf("%s: it is no folder of a trial", what)
	}
	list, err := fs.ReadDir(from.root.FS(), t.Folder)
	if err == nil {
		err = f.root.Mkdir(t.Folder, f.mode)
	}
	for _, entry := range list {
		if err != nil {
			break
		}
		err = f.copyFile(from, path.Join(t.Folder, entry.Name()))
	}
	return diskError(what, err)
}

// Trial opens the folder of a trial of this run, named by the trial's Folder.
func (f *Folder) Trial(t *Trial) (*TrialFolder, error) {
	if !filepath.IsLocal(t.Folder) {
		return nil, fmt.Errorf("the folder %q of trial %d is outside the run", t.Folder, t.Number)
	}
	return &TrialFolder{of: f, name: t.Folder}, nil
}

// Series reads the samples of a trial and the attempts of its probe, if there are any.
func (f *Folder) Series(t *Trial) ([]Sample, []ProbeSample, error) {
	tf, err := f.Trial(t)
	if err != nil {
		return nil, nil, err
	}
	samples, err := readLines[Sample](tf, FileSamples)
	if err != nil {
		return nil, nil, err
	}
	probes, err := readLines[ProbeSample](tf, fileProbe)
	return samples, probes, err
}

// TrialFolder is the folder of one trial.
type TrialFolder struct {
	of   *Folder
	name string // in it, with slashes
}

// Name returns the folder's path in the run folder, with slashes: the Folder of a [Trial].
func (t *TrialFolder) Name() string { return t.name }

// File returns the path of a file in the folder, for files that other programs write.
func (t *TrialFolder) File(name string) string { return filepath.Join(t.of.path, t.name, name) }

// Remove removes the folder, for a trial that is repeated.
func (t *TrialFolder) Remove() error { return t.of.root.RemoveAll(t.name) }

// Samples opens the series of samples for appending.
func (t *TrialFolder) Samples() (*Lines[Sample], error) {
	return appendLines[Sample](t, FileSamples)
}

// Probes opens the series of the probe's attempts for appending.
func (t *TrialFolder) Probes() (*Lines[ProbeSample], error) {
	return appendLines[ProbeSample](t, fileProbe)
}

// Actions opens the record of the actions for appending.
func (t *TrialFolder) Actions() (*Lines[ActionEvent], error) {
	return appendLines[ActionEvent](t, FileActions)
}

// SaveJSON writes a value as a whole file, for [FileReadback] and [FileHistograms].
func (t *TrialFolder) SaveJSON(name string, v any) error {
	return t.of.writeWhole(t.at(name), func(w io.Writer) error { return WriteJSON(w, v) })
}

// SaveText writes a text as a whole file, for [FileKernelLog].
func (t *TrialFolder) SaveText(name, text string) error {
	return t.of.writeBytes(t.at(name), []byte(text))
}

// at returns a file's path in the run folder.
func (t *TrialFolder) at(name string) string { return path.Join(t.name, name) }
