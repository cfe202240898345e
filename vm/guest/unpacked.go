package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

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
	// The kernel's build appends the unpacked size to formats that lack it.
	packed, size := image[start:end-4], binary.LittleEndian.Uint32(image[end-4:end])
	unpack, ok := unpackers[[2]byte(packed)]
	if !ok || size > maxKernel {
		return nil, errNoPayload
	}
	r, err := unpack(image[start:end], packed)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxKernel))
}

// maxKernel bounds an unpacked kernel in bytes.
const maxKernel = 512 << 20

// unpackers reads the formats of packed kernels, by their first two bytes. Each function gets the
// payload with and without the size at its end, which is a part of the format itself in gzip's
// case.
var unpackers = map[[2]byte]func(whole, packed []byte) (io.Reader, error){
	{0x1f, 0x8b}: func(whole, _ []byte) (io.Reader, error) { return gzip.NewReader(bytes.NewReader(whole)) },
	{0xfd, '7'}:  func(_, packed []byte) (io.Reader, error) { return xz.NewReader(bytes.NewReader(packed)) },
	{0x28, 0xb5}: func(_, packed []byte) (io.Reader, error) {
		return zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	},
	{0x02, 0x21}: func(_, packed []byte) (io.Reader, error) { return lz4.NewReader(bytes.NewReader(packed)), nil },
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
