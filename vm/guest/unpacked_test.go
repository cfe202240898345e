package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestUnpackKernel unpacks the kernels that guests boot: the result is an ELF file that holds the
// same version text, and QEMU can enter it (every test with a machine boots one).
func TestUnpackKernel(t *testing.T) {
	for _, name := range bootKernels {
		k := hostKernelFor(t, name)
		to := filepath.Join(t.TempDir(), "vmlinux")
		path, err := UnpackKernel(k.Image, to)
		if err != nil {
			t.Fatal(err)
		}
		if path != to {
			t.Errorf("%s: %s was left packed", name, k.Image)
			continue
		}
		data, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := elf.NewFile(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Contains(data, []byte("Linux version "+k.Release)) {
			t.Errorf("%s: its version %s is not in it", name, k.Release)
		}
	}
}

// TestUnpackKernelLeavesOthers checks that images of unknown form boot as they are.
func TestUnpackKernelLeavesOthers(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"empty":          nil,
		"text":           bytes.Repeat([]byte("no kernel "), 1000),
		"no payload":     bzImage(nil),
		"unknown format": bzImage([]byte("????????????????")),
		"not ELF":        bzImage(gzipped(t, []byte("a kernel without a header"))),
		"cut off":        bzImage(gzipped(t, bytes.Repeat([]byte{1}, 100)))[:0x260],
	} {
		image, to := filepath.Join(dir, "image"), filepath.Join(dir, "vmlinux")
		if err := os.WriteFile(image, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if path, err := UnpackKernel(image, to); err != nil || path != image {
			t.Errorf("%s: %s, %v; want the image itself", name, path, err)
		}
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it left %s", name, to)
		}
	}
	_, err := UnpackKernel(filepath.Join(dir, "missing"), filepath.Join(dir, "vmlinux"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// FuzzUnpackImage unpacks arbitrary files: an image is a user's file.
func FuzzUnpackImage(f *testing.F) {
	f.Add(bzImage([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	f.Add(bzImage([]byte{0x02, 0x21, 0x4c, 0x18, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0}))
	f.Fuzz(func(_ *testing.T, image []byte) {
		if kernel, err := unpackImage(image); err == nil {
			hasPVHEntry(kernel)
		}
	})
}

// bzImage wraps a payload as the boot protocol describes.
func bzImage(payload []byte) []byte {
	image := make([]byte, 2*512, 2*512+len(payload))
	image[offsetSetupSectors] = 1
	copy(image[offsetMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[offsetProtocol:], 0x020f)
	binary.LittleEndian.PutUint32(image[offsetPayloadLength:], uint32(len(payload)))
	return append(image, payload...)
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
