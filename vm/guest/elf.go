package guest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// multiarch maps each machine to the folder of its libraries on Debian and its descendants.
var multiarch = map[elf.Machine]string{
	elf.EM_X86_64:  "x86_64-linux-gnu",
	elf.EM_AARCH64: "aarch64-linux-gnu",
}

// library is a shared library or an interpreter that a program needs.
type library struct {
	guest string // path in the guest
	host  string // path on the host
}

// needs finds all libraries that the ELF files need, directly or through one another, and their
// interpreters, as ld.so(8) does: DT_RPATH without a DT_RUNPATH, DT_RUNPATH, /etc/ld.so.conf, the
// default folders. In the guest all are in one folder, where ld.so looks without configuration.
func needs(programs ...string) ([]library, error) {
	var found []library
	seen := map[string]bool{}
	queue := slices.Clone(programs)
	for len(queue) > 0 {
		file, err := readELF(queue[0])
		if err != nil {
			return nil, err
		}
		queue = queue[1:]
		if file.interpreter != "" && !seen[file.interpreter] {
			seen[file.interpreter] = true
			found = append(found, library{guest: file.interpreter, host: file.interpreter})
		}
		for _, name := range file.needed {
			// A program may need ld.so itself.
			if seen[name] || seen["/lib64/"+name] || seen["/lib/"+name] {
				continue
			}
			seen[name] = true
			host, err := file.find(name)
			if err != nil {
				return nil, err
			}
			guest := filepath.Join("/usr/lib", multiarch[file.machine], filepath.Base(name))
			found = append(found, library{guest: guest, host: host})
			queue = append(queue, host)
		}
	}
	return found, nil
}

// elfFile holds what the dynamic linker reads in a file.
type elfFile struct {
	path        string
	class       elf.Class
	machine     elf.Machine
	interpreter string
	needed      []string
	search      []string // folders of DT_RPATH or DT_RUNPATH
}

func readELF(name string) (*elfFile, error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close() // opened for reading: no data can be lost
	out := &elfFile{path: name, class: f.Class, machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return nil, fmt.Errorf("read the interpreter of %s: %w", name, err)
		}
		out.interpreter = strings.TrimRight(string(text), "\x00")
	}
	if f.SectionByType(elf.SHT_DYNAMIC) == nil {
		return out, nil // static
	}
	if out.needed, err = f.ImportedLibraries(); err != nil {
		return nil, fmt.Errorf("read the libraries of %s: %w", name, err)
	}
	paths, err := f.DynString(elf.DT_RUNPATH)
	if err == nil && len(paths) == 0 {
		paths, err = f.DynString(elf.DT_RPATH)
	}
	if err != nil {
		return nil, fmt.Errorf("read the library path of %s: %w", name, err)
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(real)
	origin := strings.NewReplacer("$ORIGIN", dir, "${ORIGIN}", dir)
	for _, list := range paths {
		out.search = append(out.search, strings.Split(origin.Replace(list), ":")...)
	}
	return out, nil
}

// loadable cuts off what a program's file holds beyond the segments that the kernel loads: symbols
// and debugging sections, a third of a Go program. It leaves other files than 64-bit ELF unchanged.
func loadable(program []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil || f.Class != elf.ELFCLASS64 {
		return program
	}
	// Elf64_Ehdr: its size, e_shoff, e_shnum and e_shstrndx.
	const headerSize, sectionTable, sectionCount = 0x40, 0x28, 0x3c
	end := uint64(headerSize)
	for _, p := range f.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	if end > uint64(len(program)) {
		return program
	}
	out := slices.Clone(program[:end])
	clear(out[sectionTable:][:8])
	clear(out[sectionCount:][:4])
	return out
}

// find finds a library of the file's own class and machine; a folder may hold those of another.
func (e *elfFile) find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	arch := multiarch[e.machine]
	dirs := slices.Concat(e.search, configuredDirs(),
		[]string{"/lib/" + arch, "/usr/lib/" + arch, "/lib64", "/usr/lib64", "/lib", "/usr/lib"})
	for _, dir := range dirs {
		host := filepath.Join(dir, name)
		f, err := elf.Open(host)
		if err != nil {
			continue // missing, or a linker script
		}
		fits := f.Class == e.class && f.Machine == e.machine
		if err := f.Close(); err != nil {
			return "", err
		}
		if fits {
			return host, nil
		}
	}
	return "", fmt.Errorf("library %s of %s: %w in %s",
		name, e.path, fs.ErrNotExist, strings.Join(dirs, ", "))
}

// configuredDirs returns the folders that the host's /etc/ld.so.conf names.
var configuredDirs = sync.OnceValue(func() []string { return parseLdConf("/etc/ld.so.conf", 0) })

// parseLdConf reads a file of ld.so.conf(5) form and those that it includes, where readable.
func parseLdConf(name string, depth int) (dirs []string) {
	const maxDepth = 8 // of files that include one another
	text, err := os.ReadFile(name)
	if err != nil || depth > maxDepth {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "hwcap" {
			continue
		}
		if words[0] != "include" {
			dirs = append(dirs, strings.Fields(separators.Replace(line))...)
			continue
		}
		for _, pattern := range words[1:] {
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(name), pattern)
			}
			files, _ := filepath.Glob(pattern) // a malformed pattern matches nothing
			for _, file := range files {
				dirs = append(dirs, parseLdConf(file, depth+1)...)
			}
		}
	}
	return dirs
}

// separators replaces what may stand between two folders in /etc/ld.so.conf by blanks.
var separators = strings.NewReplacer(":", " ", ",", " ")

// addNeeds adds the libraries that the programs need.
func (t *tree) addNeeds(programs ...string) error {
	libraries, err := needs(programs...)
	if err != nil {
		return err
	}
	for _, lib := range libraries {
		if _, there := t.entries[clean(lib.guest)]; !there {
			err = errors.Join(err, t.addProgram(lib.guest, lib.host))
		}
	}
	return err
}

func (t *tree) addProgram(guest, host string) error {
	data, err := os.ReadFile(host)
	if errors.Is(err, fs.ErrPermission) {
		return Missing("chmod a+r "+host, "%s cannot be read: %w", host, err)
	}
	if err != nil {
		return err
	}
	t.regular(guest, 0o755, data)
	return nil
}
