package guest

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent/modload"
	"github.com/ctload/ctload/internal/spelling"
)

// defaultBoot returns the modules that a virtual machine needs for its agent's port. Kernels differ
// in which of them are built in. None of them turns connection tracking on.
func defaultBoot() []string {
	return []string{"virtio_pci", "virtio_console"}
}

// DefaultCarry returns the modules that come after the agent's first answer: the driver of the
// network cards, which the agent loads, and what rules may need: netfilter, and the queueing
// disciplines of the lab's impairments. The kernel loads them on demand, as on an installed system.
// It leaves out modules that need a bridge, IPVS or ipset, and large ones that few rules use: a
// megabyte costs an emulated guest 8 ms.
func DefaultCarry() []string {
	return []string{
		"virtio_net",
		"nf_*", "nfnetlink*", "nft_*", "x_tables", "xt_*",
		"?ip_tables", "?iptable_*", "?ipt_*", "?ip6_tables", "?ip6table_*", "?ip6t_*",
		"!*bridge*", "!xt_ipvs", "!xt_set", "!*_h323",
		"?ts_*", // searches in packets, for -m string and helpers
		"?sch_netem", "?sch_fq", "?sch_ingress", "?ifb", "?cls_matchall", "?act_mirred",
		"?tcp_bbr", "?veth",
	}
}

// catalogue lists the modules of a kernel.
type catalogue struct {
	dir     string
	files   map[string]string // path below dir by canonical name
	builtin map[string]bool   // canonical names
}

func readCatalogue(dir string) (*catalogue, error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	c := &catalogue{dir: dir, files: map[string]string{}, builtin: moduleNames(text)}
	// The build of the kernel writes modules.order: it names the files without their compression,
	// and may name some of another package. The folder itself decides.
	err = fs.WalkDir(os.DirFS(dir), "kernel", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok && !d.IsDir() {
			c.files[modload.Canonical(name)] = file
		}
		return nil
	})
	return c, err
}

// moduleNames returns the canonical names in modules.builtin, which has a path on each line.
func moduleNames(text []byte) map[string]bool {
	names := map[string]bool{}
	for line := range bytes.Lines(text) {
		name, _, ok := strings.Cut(path.Base(strings.TrimSpace(string(line))), ".ko")
		if ok && name != "" {
			names[modload.Canonical(name)] = true
		}
	}
	return names
}

// match resolves names, patterns, optional and excluded ones to the canonical names of modules that
// have files. Built-in modules are no error and add nothing.
func (c *catalogue) match(names []string) ([]string, error) {
	var out []string
	for _, entry := range names {
		name, optional := strings.CutPrefix(entry, "?")
		name, excluded := strings.CutPrefix(name, "!")
		if !strings.Contains(name, "[") { // a - within [] has a meaning of its own
			name = modload.Canonical(name)
		}
		hits, err := c.find(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("module %q: %w", entry, err)
		case excluded:
			out = slices.DeleteFunc(out, func(m string) bool { return slices.Contains(hits, m) })
			continue
		case len(hits) == 0 && !optional && !c.builtin[name]:
			return nil, c.unknown(entry)
		}
		out = append(out, hits...)
	}
	return out, nil
}

// find returns the modules of a name or a pattern, sorted.
func (c *catalogue) find(name string) (hits []string, err error) {
	if _, ok := c.files[name]; ok {
		return []string{name}, nil
	}
	for candidate := range c.files {
		ok, err := path.Match(name, candidate)
		if err != nil {
			return nil, err
		}
		if ok {
			hits = append(hits, candidate)
		}
	}
	slices.Sort(hits)
	return hits, nil
}

func (c *catalogue) unknown(name string) error {
	known := slices.Sorted(maps.Keys(c.files))
	known = append(known, slices.Sorted(maps.Keys(c.builtin))...)
	hint := spelling.Hint(modload.Canonical(name), known)
	return fmt.Errorf("no module %q in %s%s", name, c.dir, hint)
}

// load reads modules and all that they depend on.
func (c *catalogue) load(names []string) (map[string]*module, error) {
	loaded := map[string]*module{}
	for wave := slices.Clone(names); len(wave) > 0; {
		slices.Sort(wave)
		there := func(name string) bool { return loaded[name] != nil }
		wave = slices.DeleteFunc(slices.Compact(wave), there)
		found := make([]*module, len(wave))
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, name := range wave {
			group.Go(func() (err error) {
				found[i], err = readModule(name, filepath.Join(c.dir, c.files[name]))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		wave = nil
		for _, m := range found {
			loaded[m.name] = m
			for i, dep := range slices.Concat(m.depends, m.softPre) {
				if c.files[dep] != "" {
					wave = append(wave, dep)
				} else if i < len(m.depends) && !c.builtin[dep] {
					return nil, fmt.Errorf("module %s needs %s; the kernel lacks it", m.name, dep)
				}
			}
		}
	}
	return loaded, nil
}

// chain returns the files to load for a module, in order: its dependencies, then itself.
func chain(loaded map[string]*module, names ...string) (files []string) {
	seen := map[string]bool{} // soft dependencies may be circular
	var visit func(name string)
	visit = func(name string) {
		m := loaded[name]
		if m == nil || seen[name] {
			return
		}
		seen[name] = true
		for _, dep := range slices.Concat(m.softPre, m.depends) {
			visit(dep)
		}
		files = append(files, name+".ko")
	}
	for _, name := range names {
		visit(name)
	}
	return files
}

// addModules adds the modules, the list of those to load at boot, and the loader's index.
func (t *tree) addModules(k Kernel, boot, carry []string) error {
	if k.ModuleDir == "" && len(boot)+len(carry) > 0 {
		return errors.New("the kernel has no folder of modules")
	}
	c, err := readCatalogue(k.ModuleDir)
	if err != nil {
		return err
	}
	bootNames, err := c.match(boot)
	if err != nil {
		return err
	}
	carryNames, err := c.match(carry)
	if err != nil {
		return err
	}
	loaded, err := c.load(slices.Concat(bootNames, carryNames))
	if err != nil {
		return err
	}
	order := chain(loaded, bootNames...)
	for name, m := range loaded {
		t.regular(path.Join(modload.Dir, name+".ko"), 0o644, m.data)
	}
	t.regular(modload.BootFile, 0o644, []byte(strings.Join(order, "\n")+"\n"))
	t.regular(modload.IndexFile, 0o644, index(c, loaded))
	return nil
}

// index returns the text in which the loader looks names up: a line feed, then a line of the name,
// a space and its chain for each module, exact alias and built-in module.
func index(c *catalogue, loaded map[string]*module) []byte {
	lines := map[string]string{}
	for name := range c.builtin {
		lines[name] = ""
	}
	for _, name := range slices.Sorted(maps.Keys(loaded)) {
		for _, alias := range loaded[name].aliases {
			// The first module by name gets an alias of two; modprobe takes the first listed.
			lines[alias] = cmp.Or(lines[alias], strings.Join(chain(loaded, name), " "))
		}
	}
	for name := range loaded {
		lines[name] = strings.Join(chain(loaded, name), " ")
	}
	var text bytes.Buffer
	text.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&text, "%s %s\n", name, lines[name])
	}
	return text.Bytes()
}

// module is a kernel module, decompressed, with its own metadata.
type module struct {
	name    string // canonical
	data    []byte
	depends []string // modules whose symbols it uses, canonical
	softPre []string // modules to load before it where possible
	aliases []string // exact ones only: udev matches those with *, the kernel never does
}

// readModule reads a module's file: .ko, .ko.xz, .ko.zst or .ko.gz.
func readModule(name, file string) (*module, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if data, err = decompress(data); err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("read %s: no section .modinfo: not a kernel module", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo of %s: %w", file, err)
	}
	m := &module{name: name, data: data}
	m.parse(info)
	return m, nil
}

// parse reads the text of a section .modinfo: key=value, each ended by a zero byte. depmod, too,
// makes modules.alias and modules.softdep from it; a kernel's package has not run depmod yet.
func (m *module) parse(info []byte) {
	for field := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			for dep := range strings.SplitSeq(value, ",") {
				if dep != "" {
					m.depends = append(m.depends, modload.Canonical(dep))
				}
			}
		case "softdep":
			// The modules after post: serve udev, which a guest does not have.
			before, _, _ := strings.Cut(value, "post:")
			for word := range strings.FieldsSeq(before) {
				if word != "pre:" {
					m.softPre = append(m.softPre, modload.Canonical(word))
				}
			}
		case "alias":
			if value != "" && !strings.ContainsAny(value, "*?[ \n") {
				m.aliases = append(m.aliases, modload.Canonical(value))
			}
		}
	}
}
