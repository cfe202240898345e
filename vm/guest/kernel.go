package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
		if moduleDir, err = findModules(image, version); err != nil {
			return Kernel{}, fmt.Errorf("modules of kernel %s: %w", image, err)
		}
	}
	if _, err := os.Stat(filepath.Join(moduleDir, "modules.builtin")); err != nil {
		return Kernel{}, fmt.Errorf("modules of kernel %s: %w", image, err)
	}
	real, err := filepath.EvalSymlinks(moduleDir)
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
