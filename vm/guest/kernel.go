package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/ctload/ctload/internal/kernels"
)

// Kernel is a kernel to boot: an image that QEMU loads, and its modules.
type Kernel struct {
	Name      string `json:"name"`       // as the user named it: debian/bookworm, host, or a path
	Release   string `json:"release"`    // uname -r
	Version   string `json:"version"`    // of the package, or from the image itself
	Image     string `json:"image"`      // path of the image (bzImage, or Image on arm64)
	ModuleDir string `json:"module_dir"` // folder with kernel/, modules.order and modules.builtin
}

// KernelFiles describes a kernel given by the paths of its image and of its folder of modules: of
// an installed kernel /lib/modules/RELEASE, of a built one INSTALL_MOD_PATH/lib/modules/RELEASE. An
// empty moduleDir stands for the folder of the image's release where packages and builds put it:
// above the image, beside it, or below / of this host. It is an error if the two differ in release.
func KernelFiles(image, moduleDir string) (Kernel, error) {
	version, err := imageVersion(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel image %s: %w", image, err)
	}
	if moduleDir == "" {
		moduleDir, err = findModules(image, version)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(moduleDir, "modules.builtin"))
	}
	var real string
	if err == nil {
		real, err = filepath.EvalSymlinks(moduleDir)
	}
	if err != nil {
		return Kernel{}, fmt.Errorf("modules of kernel %s: %w", image, err)
	}
	release, _, _ := strings.Cut(version, " ")
	if release == "" {
		release = filepath.Base(real)
	}
	if base := filepath.Base(real); base != release && base != "modules" {
		return Kernel{}, fmt.Errorf("kernel image %s is of release %s, but the modules in %s are of %s", image, release, moduleDir, base)
	}
	return Kernel{Name: image, Release: release, Version: version, Image: image, ModuleDir: moduleDir}, nil
}

// findModules returns the folder with the modules of an image.
func findModules(image, version string) (string, error) {
	release, _, _ := strings.Cut(version, " ")
	if release == "" {
		return "", errors.New("the image does not say its release, so that their folder has to be given (kernel-modules)")
	}
	real, err := filepath.EvalSymlinks(image)
	if err != nil {
		return "", err
	}
	folder := filepath.Dir(real)
	// The image is in lib/modules/RELEASE, or in a build's folder.
	places := []string{filepath.Dir(folder), filepath.Join(folder, "lib/modules")}
	for _, root := range []string{filepath.Dir(folder), "/"} { // the image is in boot
		places = append(places, filepath.Join(root, "lib/modules"), filepath.Join(root, "usr/lib/modules"))
	}
	for _, place := range places {
		if _, err := os.Stat(filepath.Join(place, release, "modules.builtin")); err == nil {
			return filepath.Join(place, release), nil
		}
	}
	return "", fmt.Errorf("no folder %s in %s; kernel-modules says where it is", release, strings.Join(places, ", "))
}

// imageVersion reads the version text of a kernel for x86: "6.1.0-50-cloud-amd64 (who@where) #1 SMP
// ...". An image for arm64 has none, and the text is empty.
func imageVersion(image string) (version string, err error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", and
	// Documentation/arch/arm64/booting.rst, "Call the kernel image"; the last is an image that
	// unpacks itself (CONFIG_EFI_ZBOOT).
	const (
		magicX86, offsetX86     = "HdrS", 0x202
		magicARM64, offsetARM64 = "ARM\x64", 0x38
		magicZBoot, offsetZBoot = "zimg", 0x4
		offsetVersion           = 0x20e // of the text, from sector 1
		sector                  = 0x200
		maxVersion              = 512
	)
	head := make([]byte, offsetVersion+2)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("too short for a kernel: %w", err)
	}
	switch {
	case string(head[offsetX86:][:len(magicX86)]) == magicX86:
		text := make([]byte, maxVersion)
		n, err := f.ReadAt(text, sector+int64(binary.LittleEndian.Uint16(head[offsetVersion:])))
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		text, _, found := bytes.Cut(text[:n], []byte{0})
		if !found {
			return "", errors.New("damaged: its version text has no end")
		}
		return string(text), nil
	case string(head[offsetARM64:][:len(magicARM64)]) == magicARM64, string(head[offsetZBoot:][:len(magicZBoot)]) == magicZBoot:
		return "", nil
	}
	return "", errors.New("not a kernel for x86 or arm64")
}

// hostKernel describes this host's running kernel, if its image and modules are installed.
func hostKernel() (Kernel, error) {
	release := kernels.Running()
	image := "/boot/vmlinuz-" + release
	k, err := KernelFiles(image, "/lib/modules/"+release)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Kernel{}, &MissingError{What: "the kernel image of this host cannot be read", Fix: "chmod a+r " + image, Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return Kernel{}, &MissingError{
			What: "the running kernel " + release + " is not installed as " + image + " with /lib/modules/" + release,
			Fix:  "name a kernel that can be fetched, such as debian/bookworm", Err: err,
		}
	case err != nil:
		return Kernel{}, err
	}
	k.Name = kernels.HostName
	return k, nil
}

// UnpackKernel writes the kernel inside a bzImage to the file to, and returns the path that a
// machine should boot: to, or the image itself where unpacking gains nothing. An emulated guest
// takes tenths of a second to unpack its own kernel, the host hundredths; QEMU (4.0 and later)
// enters an unpacked kernel by the PVH protocol, if it was built for that (CONFIG_PVH, as
// distributions do). Such a kernel stays at its link address, without KASLR.
//
// UnpackKernel leaves an image of another architecture, of an unknown compression or without a PVH
// entry.
func UnpackKernel(image, to string) (string, error) {
	data, err := os.ReadFile(image)
	if err != nil {
		return "", fmt.Errorf("unpack kernel: %w", err)
	}
	kernel, err := unpackImage(data)
	if err != nil || !hasPVHEntry(kernel) {
		return image, nil //nolint:nilerr // the image boots by itself
	}
	if err := os.WriteFile(to, kernel, 0o644); err != nil {
		return "", fmt.Errorf("unpack kernel %s: %w", image, errors.Join(err, os.Remove(to)))
	}
	return to, nil
}

// Offsets of fields in the header of a bzImage (the kernel's Documentation/arch/x86/boot.rst).
const (
	offsetSetupSectors  = 0x1f1
	offsetMagic         = 0x202
	offsetProtocol      = 0x206
	offsetPayload       = 0x248
	offsetPayloadLength = 0x24c
	offsetHeaderEnd     = 0x250
)

// payloadProtocol is the first version of the boot protocol whose header describes the payload.
const payloadProtocol = 0x0208

var errNoPayload = errors.New("no kernel is packed in it")

// unpackImage returns the ELF file that is packed in a bzImage.
func unpackImage(image []byte) ([]byte, error) {
	if len(image) < offsetHeaderEnd || string(image[offsetMagic:offsetMagic+4]) != "HdrS" ||
		binary.LittleEndian.Uint16(image[offsetProtocol:]) < payloadProtocol {
		return nil, errNoPayload
	}
	setup := int(image[offsetSetupSectors])
	if setup == 0 {
		setup = 4 // as the protocol says
	}
	start := int64(setup+1)*512 + int64(binary.LittleEndian.Uint32(image[offsetPayload:]))
	end := start + int64(binary.LittleEndian.Uint32(image[offsetPayloadLength:]))
	if end > int64(len(image)) || end-start < 8 {
		return nil, errNoPayload
	}
	// The kernel's build appends the unpacked size to formats that lack it; gzip ends with its own.
	packed, size := image[start:end-4], binary.LittleEndian.Uint32(image[end-4:end])
	if packed[0] == gzipByte {
		packed = image[start:end]
	}
	if formats[[2]byte(packed)] == nil || size > maxUnpacked {
		return nil, errNoPayload
	}
	return decompress(packed)
}

// maxUnpacked bounds an unpacked kernel or module in bytes.
const maxUnpacked = 512 << 20

// gzipByte begins what gzip has packed.
const gzipByte = 0x1f

// formats opens the formats of packed kernels and modules, by their first two bytes.
var formats = map[[2]byte]func(io.Reader) (io.Reader, error){
	{gzipByte, 0x8b}: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	{0xfd, '7'}:      func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) },
	{0x28, 0xb5}: func(r io.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	},
	{0x02, 0x21}: func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil },
}

// decompress unpacks data of one of the formats, and returns other data as it is.
func decompress(data []byte) ([]byte, error) {
	if len(data) < 2 || formats[[2]byte(data)] == nil {
		return data, nil
	}
	r, err := formats[[2]byte(data)](bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxUnpacked))
}

// noteEntry is the type of the ELF note, of owner Xen, that holds the PVH entry of a kernel
// (XEN_ELFNOTE_PHYS32_ENTRY).
const noteEntry = 18

// hasPVHEntry reports whether a kernel can be booted unpacked: QEMU looks for the same note.
func hasPVHEntry(kernel []byte) bool {
	file, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return false
	}
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(segment.Open())
		if err == nil && hasNote(notes, file.ByteOrder, "Xen\x00", noteEntry) {
			return true
		}
	}
	return false
}

// hasNote reports whether a segment of notes holds a note: sizes of owner and contents, type, then
// both, each padded to four bytes.
func hasNote(notes []byte, order binary.ByteOrder, owner string, kind uint32) bool {
	const header = 12
	for len(notes) >= header {
		ownerSize, size := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:]))
		padded := func(n uint64) uint64 { return (n + 3) &^ 3 }
		next := header + padded(ownerSize) + padded(size)
		if next > uint64(len(notes)) {
			return false
		}
		if order.Uint32(notes[8:]) == kind && string(notes[header:header+ownerSize]) == owner {
			return true
		}
		notes = notes[next:]
	}
	return false
}
