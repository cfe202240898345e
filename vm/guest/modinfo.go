package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/ctload/ctload/agent/modload"
)

// module is a kernel module, decompressed, and what it says about itself.
type module struct {
	name    string // canonical
	data    []byte
	depends []string // modules whose symbols it uses, canonical
	softPre []string // modules that it would like to have loaded before itself
	aliases []string // exact ones only: those with * are matched by udev, never by the kernel
}

// readModule reads a module's file, .ko, .ko.xz, .ko.zst or .ko.gz.
func readModule(name, file string) (*module, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if data, err = decompress(file, data); err != nil {
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

// parse reads the text of a section .modinfo: key=value, each ended by a zero byte. This is where
// depmod, too, has modules.alias and modules.softdep from; a kernel's package has not run it yet.
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
			// What follows post: is for udev's sake, which a guest has none of.
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

// decompress undoes the compression that a file's name tells.
func decompress(file string, data []byte) ([]byte, error) {
	switch {
	case strings.HasSuffix(file, ".xz"):
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case strings.HasSuffix(file, ".zst"):
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.DecodeAll(data, nil)
	case strings.HasSuffix(file, ".gz"):
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	return data, nil
}
