package guest

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
)

// x86Image returns the beginning of a bzImage that carries a version text.
func x86Image(version string) []byte {
	const text = 0x400
	image := make([]byte, text, 0x800)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x20e:], text-0x200)
	return append(append(image, version...), 0)
}

func arm64Image() []byte {
	image := make([]byte, 0x400)
	copy(image[0x38:], "ARM\x64")
	return image
}

// kernelFiles writes an image and a folder of modules of a release.
func kernelFiles(t *testing.T, image []byte, release string) (imagePath, modules string) {
	t.Helper()
	dir := t.TempDir()
	imagePath, modules = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "lib/modules", release)
	writeFile(t, imagePath, string(image))
	writeFile(t, filepath.Join(modules, "modules.builtin"), "")
	return imagePath, modules
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKernelFiles(t *testing.T) {
	const version = "6.1.0-50-test (who@where) #1 SMP"
	tests := []struct {
		name    string
		image   []byte
		modules string // release of the folder
		release string
		err     string
	}{
		{name: "x86", image: x86Image(version), modules: "6.1.0-50-test", release: "6.1.0-50-test"},
		{name: "arm64 says no version", image: arm64Image(), modules: "6.12.0-test",
			release: "6.12.0-test"},
		{name: "modules of another kernel", image: x86Image(version), modules: "6.1.0-51-test",
			err: "is of release 6.1.0-50-test, the modules"},
		{name: "no kernel", image: make([]byte, 4096), modules: "6.1.0",
			err: "not a kernel for x86 or arm64"},
		{name: "cut off", image: x86Image(version)[:0x20f], modules: "6.1.0",
			err: "too short for a kernel"},
		{name: "damaged", image: x86Image(version)[:0x410], modules: "6.1.0",
			err: "its version text has no end"},
		{name: "empty", modules: "6.1.0", err: "too short for a kernel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image, modules := kernelFiles(t, tt.image, tt.modules)
			k, err := KernelFiles(image, modules)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil || k.Release != tt.release || k.Image != image || k.ModuleDir != modules {
				t.Errorf("%+v, %v; want release %s", k, err, tt.release)
			}
		})
	}
	image, modules := kernelFiles(t, x86Image(version), "6.1.0-50-test")
	if _, err := KernelFiles(image+"x", modules); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
	if _, err := KernelFiles(image, modules+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no modules: %v", err)
	}
}

// TestModulesOfImage finds the modules of an image where packages and builds put them.
func TestModulesOfImage(t *testing.T) {
	const release = "6.99.0-test"
	image := string(x86Image(release + " (who@where) #1 SMP"))
	for _, tt := range []struct{ image, modules string }{
		{"boot/vmlinuz-" + release, "lib/modules/" + release},
		{"boot/vmlinuz-" + release, "usr/lib/modules/" + release},
		{"usr/lib/modules/" + release + "/vmlinuz", "usr/lib/modules/" + release},
		{"vmlinuz", "lib/modules/" + release},
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, tt.image), image)
		_, err := KernelFiles(filepath.Join(dir, tt.image), "")
		if err == nil || !strings.Contains(err.Error(), "no folder "+release) {
			t.Errorf("%s without modules: %v", tt.image, err)
		}
		writeFile(t, filepath.Join(dir, tt.modules, "modules.builtin"), "")
		k, err := KernelFiles(filepath.Join(dir, tt.image), "")
		if err != nil || k.Release != release || k.ModuleDir != filepath.Join(dir, tt.modules) {
			t.Errorf("%s: %+v, %v", tt.image, k, err)
		}
	}
	silent := filepath.Join(t.TempDir(), "Image")
	writeFile(t, silent, string(arm64Image()))
	_, err := KernelFiles(silent, "")
	if err == nil || !strings.Contains(err.Error(), "has no release") {
		t.Errorf("an image without a version: %v", err)
	}
}

func FuzzKernelFiles(f *testing.F) {
	f.Add(x86Image("6.1.0 (a@b) #1"))
	f.Add(arm64Image())
	f.Fuzz(func(t *testing.T, image []byte) {
		name := filepath.Join(t.TempDir(), "vmlinuz")
		if err := os.WriteFile(name, image, 0o644); err != nil {
			t.Fatal(err)
		}
		version, err := imageVersion(name)
		if err == nil && (len(version) > 512 || strings.Contains(version, "\x00")) {
			t.Errorf("version %q", version)
		}
	})
}

// TestHostKernel returns this host's kernel where it is installed, and says what to do where not.
func TestHostKernel(t *testing.T) {
	k, err := new(Store).Kernel(t.Context(), kernels.HostName)
	if missing, ok := errors.AsType[*MissingError](err); ok {
		if missing.Fix == "" || !strings.Contains(missing.Fix, "debian/bookworm") &&
			!strings.Contains(missing.Fix, "chmod") {
			t.Errorf("no way out: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	want := unix.ByteSliceToString(name.Release[:])
	if k.Release != want || k.Name != kernels.HostName {
		t.Errorf("kernel %+v, want release %s", k, want)
	}
}
