package scenarios

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/textfile"
)

// fileKeys are the keys whose text may stand in a file of its own, as {file: PATH}.
var fileKeys = []string{"rules", "rules6", "nft", "ipset", "ipvs", "sysctl", "modprobe"}

// maxFile bounds a file that an experiment names: dumps of hosts with many containers have 3.4 MB.
const maxFile = 16 << 20

// files are the texts that an experiment names by path. Each is read once: the sandbox gets them
// with the experiment, whatever became of the files since.
type files struct {
	folder string            // where relative paths begin
	texts  map[string]string // by path as given
	sealed bool              // only texts can be read
}

// filesBeside returns the files that an experiment of a name can reach.
func filesBeside(experiment string) *files {
	return &files{folder: filepath.Dir(experiment), texts: map[string]string{}}
}

// read returns the text of a file that an experiment names, with the line ends of Unix.
func (f *files) read(path string) (string, error) { return f.readAny(path, false) }

// readAny reads a file; the user may also name a pipe, as <(iptables-save), which an experiment, of
// whatever author, may not: its other end may never write.
func (f *files) readAny(path string, named bool) (string, error) {
	if text, ok := f.texts[path]; ok {
		return text, nil
	}
	if f.sealed {
		return "", fmt.Errorf("the file %s was not read with the experiment", path)
	}
	place := path
	if !filepath.IsAbs(path) {
		place = filepath.Join(f.folder, path)
	}
	info, err := os.Stat(place)
	if err == nil && !info.Mode().IsRegular() && (!named || info.IsDir()) {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return "", err
	}
	data, err := textfile.Read(place, maxFile)
	switch {
	case err != nil:
		return "", err
	case len(data) == 0 && !info.Mode().IsRegular():
		return "", errors.New("it is a pipe, and nothing writes to it")
	case slices.Contains(data, 0):
		return "", errors.New("it holds a NUL byte; it is not text")
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(string(data), "\uFFFD"), "\r\n", "\n")
	f.texts[path] = text
	return text, nil
}

// inlined returns a dut, a scenario or an action with the texts of files in place of their paths.
func (p *problems) inlined(n *node) *node {
	for _, key := range fileKeys {
		n = n.change(key, func(value *node) *node {
			switch {
			case value.kind == mapping && value.has("file"):
				return p.textOf(key, value)
			case value.kind == scalar && pathForm.MatchString(strings.TrimSpace(value.text)):
				path := strings.TrimSpace(value.text)
				p.errorf(value.at, "%s is a path, and %s is a text; write %s: {file: %s}",
					quote(path), key, key, path)
				return &node{at: value.at}
			}
			return value
		})
	}
	return n
}

// pathForm matches a path in place of a text.
var pathForm = regexp.MustCompile(`^(/|\.\.?/)\S+$|^[\w./-]+\.(rules|v4|v6|nft|conf|save|txt)$`)

// textOf reads the text of {file: PATH}, or the texts of several files, one after the other.
func (p *problems) textOf(key string, value *node) *node {
	named := value.get("file")
	for _, e := range value.entries {
		p.refuse(e.key != "file", e.at, "%s is given by file, and %s beside it is not read",
			key, quote(e.key))
	}
	if named.kind != list {
		named = &node{kind: list, items: []*node{named}}
	}
	built := &node{kind: scalar, at: value.at}
	for _, item := range named.items {
		path, ok := scalarText(p, item)
		if !ok {
			continue
		}
		text, err := p.files.read(path)
		if err != nil {
			p.errorf(item.at, "reading %s: %v", path, fileError(err))
			continue
		}
		text = strings.TrimSuffix(text, "\n") + "\n"
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		p.sources[path] = lines
		for i, line := range lines {
			indent := len(line) - len(strings.TrimLeft(line, " "))
			built.lines = append(built.lines, Position{path, i + 1, indent + 1})
		}
		built.text += text
	}
	if len(built.lines) > 0 {
		built.at = built.lines[0]
	}
	return built
}

// fileError returns an error about a file without its path, which the message has.
func fileError(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// bundle is an experiment with the files that it names, for another process.
type bundle struct {
	Experiment string            `json:"experiment"`
	Folder     string            `json:"folder"`
	Files      map[string]string `json:"files,omitempty"`
}

// Bundle returns the text of the experiment as it was read, with the files that it names. See
// [Unbundle].
func (e *Experiment) Bundle() []byte {
	f := e.problems.files
	data, _ := json.Marshal(bundle{string(e.source), f.folder, f.texts}) // texts alone
	return data
}

// Unbundle parses what [Experiment.Bundle] returned, and reads no file; see [Parse].
func Unbundle(name string, data []byte) (*Experiment, []Warning, error) {
	var b bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, nil, invalidf(err, "take the experiment over: %v", err)
	}
	if b.Files == nil {
		b.Files = map[string]string{}
	}
	f := &files{folder: b.Folder, texts: b.Files, sealed: true}
	return parseWith(f, name, []byte(b.Experiment))
}

// SetFiles gives the DUT texts from files, by key and relative to the working folder, in place of
// those of the experiment; settings stay that the file of sysctls does not have. Scenarios change
// them as before. It returns all warnings anew. A file that cannot be read, or is wrong, is an
// [*InvalidError], and then nothing changes. Call it before [Experiment.Select].
func (e *Experiment) SetFiles(paths map[string][]string) ([]Warning, error) {
	p := newProblems()
	p.files, p.sources, p.inherited = e.problems.files, e.problems.sources, e.problems.inherited
	p.warnings = slices.Clone(e.normalised)
	given := &node{kind: mapping}
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		at := Position{File: "--" + key}
		names := &node{kind: list, at: at}
		for _, path := range paths[key] {
			if e.problems.files.folder != "." {
				path, _ = filepath.Abs(path) // fails only without a working folder
			}
			// What cannot be read is told where its text is asked for.
			_, _ = e.problems.files.readAny(path, true)
			names.items = append(names.items, &node{kind: scalar, at: at, text: path})
		}
		file := &node{kind: mapping, at: at, entries: []entry{{"file", at, names}}}
		given.entries = append(given.entries, entry{key, at, file})
	}
	root := e.root
	given = newNormaliser(p, root).dut(given)
	dut := root.get("dut")
	if dut == nil || dut.kind != mapping {
		dut = &node{kind: mapping, at: root.at}
	}
	for _, key := range []string{"rules", "rules6"} {
		if given.has(key) {
			dut = dut.without(key) // whole, not table by table
		}
	}
	other := *e
	other.root, other.problems = root.with("dut", dut.at, overlayDUT(dut, given)), p
	other.resolve()
	if err := p.err(); err != nil {
		return sorted(p.warnings), err
	}
	other.Thresholds = readThresholds(p, other.root.get("thresholds"), other.resolved)
	*e = other
	return sorted(p.warnings), nil
}
