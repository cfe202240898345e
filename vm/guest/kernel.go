package guest

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

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

// KernelFiles describes a kernel given by its image and its folder of modules, which for a built
// one is INSTALL_MOD_PATH/lib/modules/RELEASE. An empty moduleDir stands for the place where
// packages and builds put it: above the image, beside it, or below / of this host. The releases
// must agree.
func KernelFiles(image, moduleDir string) (Kernel, error) {
	version, err := imageVersion(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel image %s: %w", image, err)
	}
	release, _, _ := strings.Cut(version, " ")
	if moduleDir == "" {
		moduleDir, err = findModules(image, release)
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
	base := filepath.Base(real)
	release = cmp.Or(release, base)
	if base != release && base != "modules" {
		return Kernel{}, fmt.Errorf("kernel image %s is of release %s, the modules in %s are of %s",
			image, release, moduleDir, base)
	}
	return Kernel{image, release, version, image, moduleDir}, nil
}

// findModules returns the folder with the modules of an image.
func findModules(image, release string) (string, error) {
	if release == "" {
		return "", errors.New("the image has no release; name their folder (kernel-modules)")
	}
	real, err := filepath.EvalSymlinks(image)
	if err != nil {
		return "", err
	}
	folder := filepath.Dir(real)
	above := filepath.Dir(folder)
	// The image is in lib/modules/RELEASE, in a build's folder, or in boot.
	places := []string{above, folder + "/lib/modules", filepath.Join(above, "lib/modules"),
		filepath.Join(above, "usr/lib/modules"), "/lib/modules", "/usr/lib/modules"}
	for _, place := range places {
		if _, err := os.Stat(filepath.Join(place, release, "modules.builtin")); err == nil {
			return filepath.Join(place, release), nil
		}
	}
	return "", fmt.Errorf("no folder %s in %s; kernel-modules says where it is",
		release, strings.Join(places, ", "))
}

// imageVersion reads the version text of a kernel for x86: "6.1.0-50-cloud-amd64 (who@where) #1 SMP
// ...". An image for arm64 has none, and the text is empty.
func imageVersion(image string) (version string, err error) {
	f, err := os.OpenFile(image, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would hang
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxUnpacked) {
		err = fmt.Errorf("no regular file of at most %d MiB", maxUnpacked>>20)
	}
	if err != nil {
		return "", err
	}
	// Documentation/arch/arm64/booting.rst, and an image that unpacks itself (CONFIG_EFI_ZBOOT).
	const (
		magicARM64, offsetARM64 = "ARM\x64", 0x38
		magicZBoot, offsetZBoot = "zimg", 0x4
		sector                  = 0x200
		maxVersion              = 512
	)
	head := make([]byte, offsetVersion+2)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("too short for a kernel: %w", err)
	}
	has := func(magic string, at int) bool { return string(head[at:][:len(magic)]) == magic }
	switch {
	case has(magicX86, offsetMagic):
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
	case has(magicARM64, offsetARM64), has(magicZBoot, offsetZBoot):
		return "", nil
	}
	return "", errors.New("not a kernel for x86 or arm64")
}

// hostKernel describes this host's running kernel, if its image and modules are installed.
func hostKernel() (Kernel, error) {
	release := kernels.Running()
	image, modules := "/boot/vmlinuz-"+release, "/lib/modules/"+release
	k, err := KernelFiles(image, modules)
	switch {
	case errors.Is(err, fs.ErrPermission):
		err = Missing("chmod a+r "+image, "the kernel image of this host cannot be read: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		err = Missing("name a kernel that can be fetched, such as debian/bookworm",
			"the running kernel is not installed as %s with %s: %w", image, modules, err)
	}
	k.Name = kernels.HostName
	return k, err
}

// UnpackKernel writes the kernel inside a bzImage to the file to, and returns the path that a
// machine should boot: to, or the image itself where unpacking gains nothing. An emulated guest
// takes tenths of a second to unpack its own kernel, the host hundredths; QEMU (4.0 and later)
// enters an unpacked kernel by the PVH protocol, if it was built for that (CONFIG_PVH, as
// distributions do). Such a kernel stays at its link address, without KASLR.
//
// UnpackKernel leaves an image of another architecture or compression, or without a PVH entry.
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

// The header of a bzImage (the kernel's Documentation/arch/x86/boot.rst).
const (
	offsetSetupSectors  = 0x1f1
	offsetMagic         = 0x202
	offsetProtocol      = 0x206
	offsetVersion       = 0x20e // of the version text, from sector 1
	offsetPayload       = 0x248
	offsetPayloadLength = 0x24c
	offsetHeaderEnd     = 0x250

	magicX86        = "HdrS"
	payloadProtocol = 0x0208 // the first version of the protocol that describes the payload
)

var errNoPayload = errors.New("no kernel is packed in it")

// unpackImage returns the ELF file that is packed in a bzImage.
func unpackImage(image []byte) ([]byte, error) {
	if len(image) < offsetHeaderEnd || string(image[offsetMagic:][:len(magicX86)]) != magicX86 ||
		binary.LittleEndian.Uint16(image[offsetProtocol:]) < payloadProtocol {
		return nil, errNoPayload
	}
	setup := cmp.Or(int64(image[offsetSetupSectors]), 4) // as the protocol says
	start := (setup+1)*512 + int64(binary.LittleEndian.Uint32(image[offsetPayload:]))
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

// noteEntry is the type of Xen's ELF note with the PVH entry (XEN_ELFNOTE_PHYS32_ENTRY).
const noteEntry = 18

// hasPVHEntry reports whether a kernel can be booted unpacked: QEMU looks for the same note.
func hasPVHEntry(kernel []byte) bool {
	file, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(file.Progs, func(segment *elf.Prog) bool {
		if segment.Type != elf.PT_NOTE {
			return false
		}
		notes, err := io.ReadAll(segment.Open())
		return err == nil && hasNote(notes, file.ByteOrder, "Xen\x00", noteEntry)
	})
}

// hasNote reports whether notes hold a note: sizes of owner and contents, type, both padded to 4.
func hasNote(notes []byte, order binary.ByteOrder, owner string, kind uint32) bool {
	const header = 12
	for len(notes) >= header {
		ownerSize, size := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:]))
		next := header + (ownerSize+3)&^3 + (size+3)&^3
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
