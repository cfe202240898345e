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
			// What follows post: serves udev, which a guest does not have.
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

// decompress undoes the compression that a file's name shows.
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
