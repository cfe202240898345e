package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Folder is the folder of a run on disk. The run writes it as it goes on, so that a crash loses no
// measurement:
//
//	experiment.yaml               the experiment as run, defaults and overrides filled in
//	run.json                      the model; replaced as a whole after each trial
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
type Folder struct {
	path string
}

// Names of the files of a run folder.
const (
	fileExperiment = "experiment.yaml"
	fileRun        = "run.json"
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

// Create makes the folder of a new run, with its parents; it must be empty: two runs never mix.
func Create(dir string) (*Folder, error) {
	if err := CheckNew(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, dirTrials), 0o755); err != nil {
		return nil, diskError("creating the run folder", err)
	}
	return &Folder{path: dir}, nil
}

// Open opens the folder of an earlier run. The path may be that of its run.json.
func Open(path string) (*Folder, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() && filepath.Base(path) == fileRun {
		path = filepath.Dir(path)
	}
	_, err = os.Stat(filepath.Join(path, fileRun))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("opening the run %s: %w (%s is missing)", path, errNoRun, fileRun)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the run: %w", err)
	}
	return &Folder{path: path}, nil
}

// Path returns the folder's path as given.
func (f *Folder) Path() string { return f.path }

// SaveExperiment writes the experiment as run.
func (f *Folder) SaveExperiment(yaml []byte) error {
	return writeBytes(filepath.Join(f.path, fileExperiment), yaml)
}

// Experiment returns the experiment as run.
func (f *Folder) Experiment() ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(f.path, fileExperiment))
	if err != nil {
		return nil, fmt.Errorf("reading the experiment as run: %w", err)
	}
	return data, nil
}

// Save replaces run.json as a whole: readers see the old or the new one, also after a crash.
func (f *Folder) Save(run *Run) error {
	path := filepath.Join(f.path, fileRun)
	return writeWhole(path, func(w io.Writer) error { return Encode(w, run) })
}

// Load reads run.json, of this or an older schema.
func (f *Folder) Load() (run *Run, err error) {
	data, err := os.ReadFile(filepath.Join(f.path, fileRun))
	if err != nil {
		return nil, fmt.Errorf("opening the run: %w", err)
	}
	if run, err = decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(f.path, fileRun), err)
	}
	return run, nil
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
	t := &TrialFolder{name: name, path: filepath.Join(f.path, name)}
	err := os.MkdirAll(filepath.Dir(t.path), 0o755)
	if err == nil {
		err = os.Mkdir(t.path, 0o755)
	}
	return t, diskError(what, err)
}

// Trial opens the folder of a trial of this run, named by the trial's Folder.
func (f *Folder) Trial(t *Trial) (*TrialFolder, error) {
	if !filepath.IsLocal(t.Folder) {
		return nil, fmt.Errorf("the folder %q of trial %d is outside the run", t.Folder, t.Number)
	}
	return &TrialFolder{name: t.Folder, path: filepath.Join(f.path, t.Folder)}, nil
}

// Series reads the samples of a trial and the attempts of its probe, if there are any.
func (f *Folder) Series(t *Trial) ([]Sample, []ProbeSample, error) {
	tf, err := f.Trial(t)
	if err != nil {
		return nil, nil, err
	}
	samples, err := readLines[Sample](tf.File(FileSamples))
	if err != nil {
		return nil, nil, err
	}
	probes, err := readLines[ProbeSample](tf.File(fileProbe))
	return samples, probes, err
}

// TrialFolder is the folder of one trial.
type TrialFolder struct {
	name, path string
}

// Name returns the folder's path in the run folder, with slashes: the Folder of a [Trial].
func (t *TrialFolder) Name() string { return t.name }

// File returns the path of a file in the folder, for files that other packages write.
func (t *TrialFolder) File(name string) string { return filepath.Join(t.path, name) }

// Remove removes the folder, for a trial that is repeated.
func (t *TrialFolder) Remove() error { return os.RemoveAll(t.path) }

// Samples opens the series of samples for appending.
func (t *TrialFolder) Samples() (*Lines[Sample], error) {
	return appendLines[Sample](t.File(FileSamples))
}

// Probes opens the series of the probe's attempts for appending.
func (t *TrialFolder) Probes() (*Lines[ProbeSample], error) {
	return appendLines[ProbeSample](t.File(fileProbe))
}

// Actions opens the record of the actions for appending.
func (t *TrialFolder) Actions() (*Lines[ActionEvent], error) {
	return appendLines[ActionEvent](t.File(FileActions))
}

// SaveJSON writes a value as a whole file, for [FileReadback] and [FileHistograms].
func (t *TrialFolder) SaveJSON(name string, v any) error {
	return writeWhole(t.File(name), func(w io.Writer) error { return WriteJSON(w, v) })
}

// SaveText writes a text as a whole file, for [FileKernelLog].
func (t *TrialFolder) SaveText(name, text string) error {
	return writeBytes(t.File(name), []byte(text))
}

func writeBytes(path string, data []byte) error {
	return writeWhole(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeWhole writes a file under another name in the same folder and renames it into place.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	what := "writing " + path
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return diskError(what, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(write(file), file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return diskError(what, err)
	}
	return diskError(what, os.Rename(file.Name(), path))
}

// diskError reports a full disk plainly; the bare error hides it behind a file's name.
func diskError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: the disk is full; what was measured before is kept: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Lines appends values to a file as JSON, one on each line (JSON lines). It writes each value at
// once, so that a crash loses none and tears at most the last. It is safe for concurrent use.
type Lines[T any] struct {
	mu   sync.Mutex
	file *os.File
	size int64 // of the complete lines
}

func appendLines[T any](path string) (*Lines[T], error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, diskError("opening a series", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(diskError("opening a series", err), file.Close())
	}
	return &Lines[T]{file: file, size: info.Size()}, nil
}

// Append writes one value.
func (l *Lines[T]) Append(v T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", l.file.Name(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(append(data, '\n'))
	if err != nil {
		// A full disk takes a part of the line: remove it, or the next line would follow it.
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return diskError("writing "+l.file.Name(), err)
	}
	l.size += int64(n)
	return nil
}

// Replace replaces all written values at once. Later appends follow the new values.
func (l *Lines[T]) Replace(values []T) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.file.Name()
	err := writeWhole(path, func(w io.Writer) error {
		encoder := json.NewEncoder(w) // ends each value with a newline
		encoder.SetEscapeHTML(false)
		for _, v := range values {
			if err := encoder.Encode(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	again, err := appendLines[T](path)
	if err != nil {
		return err
	}
	err = l.file.Close()
	l.file, l.size = again.file, again.size
	return diskError("closing a series", err)
}

// Close closes the file.
func (l *Lines[T]) Close() error { return diskError("closing a series", l.file.Close()) }

// readLines reads a file of JSON lines; a missing file has none.
func readLines[T any](path string) ([]T, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a series: %w", err)
	}
	values, err := parseLines[T](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

// parseLines parses JSON lines. It leaves out a last line without its newline that does not parse:
// a crash tore it. Any other line that does not parse is an error with its number.
func parseLines[T any](data []byte) ([]T, error) {
	var values []T
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			if !whole {
				break
			}
			return nil, fmt.Errorf("reading a series: line %d: %w", number, err)
		}
		values = append(values, v)
	}
	return values, nil
}
