package guest

import (
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// distro is a source of kernels by name.
type distro struct {
	id        string
	codenames []string // of its kernels; some may have backports
	aliases   []string // other names of its archive's suites
	backports []string // codenames for which CODENAME-backports has kernels of its own
	pockets   []string // suites of the same archive that belong to a codename, by suffix
	security  string   // suffix of the suite of a separate archive of security fixes
	rolling   []string // codenames without such a suite
	keys      string   // that sign its archives, as ctload brings them
	keyrings  []string // of the host, which may have newer ones
	script    string   // of debootstrap, which names the default mirror
	env       string   // variable that names another mirror
}

// The keys that sign archives automatically, from Debian's packages debian-archive-keyring and
// ubuntu-keyring. A host may lack them, or those of a distribution that is younger than the host.
var (
	//go:embed keys/debian.asc
	debianKeys string
	//go:embed keys/ubuntu.asc
	ubuntuKeys string
)

var distros = []distro{
	{
		id:        "debian",
		codenames: []string{"bullseye", "bookworm", "trixie", "sid"},
		aliases:   []string{"forky", "oldstable", "stable", "testing", "unstable"},
		backports: []string{"bookworm", "trixie"},
		security:  "-security",
		rolling:   []string{"sid"},
		keys:      debianKeys,
		keyrings:  keyringFiles("debian"),
		script:    "sid",
		env:       "CTLOAD_DEBIAN_MIRROR",
	},
	{
		id:        "ubuntu",
		codenames: []string{"focal", "jammy", "noble", "resolute"},
		aliases:   []string{"plucky", "questing"},
		pockets:   []string{"-updates", "-security"},
		keys:      ubuntuKeys,
		keyrings:  keyringFiles("ubuntu"),
		script:    "gutsy",
		env:       "CTLOAD_UBUNTU_MIRROR",
	},
}

func keyringFiles(id string) []string {
	name := "/usr/share/keyrings/" + id + "-archive-keyring"
	return []string{name + ".gpg", name + ".pgp"}
}

// KernelNames returns the names that [Store.Kernel] knows.
func KernelNames() []string {
	names := []string{kernels.HostName}
	for _, d := range distros {
		names = append(names, d.names()...)
	}
	return names
}

func (d *distro) names() (names []string) {
	for _, codename := range d.codenames {
		names = append(names, d.id+"/"+codename)
		if slices.Contains(d.backports, codename) {
			names = append(names, d.id+"/"+codename+"-backports")
		}
	}
	return names
}

// metaPackage returns the package that depends on the current kernel of a suite: Debian's cloud
// kernel or Ubuntu's virtual one, which have what a virtual machine needs and little else.
func (d *distro) metaPackage() string {
	if d.id == "ubuntu" {
		return "linux-image-virtual"
	}
	return "linux-image-cloud-" + runtime.GOARCH // Debian and Go agree on amd64 and arm64
}

// suites returns the suites of the distribution's main archive that may have a kernel.
func (d *distro) suites(suite string) []string {
	out := []string{suite}
	for _, pocket := range d.pockets {
		out = append(out, suite+pocket)
	}
	return out
}

// fixes reports whether a suite is one of a separate archive of security fixes.
func (d *distro) fixes(suite string) bool {
	return d.security != "" &&
		(strings.HasSuffix(suite, d.security) || strings.HasSuffix(suite, "/updates"))
}

// owns reports whether the name of a suite is one of the distribution's.
func (d *distro) owns(suite string) bool {
	codename, _, _ := strings.Cut(suite, "-")
	codename, _, _ = strings.Cut(codename, "/") // bullseye/updates
	return slices.Contains(d.codenames, codename) || slices.Contains(d.aliases, codename)
}

// UnknownKernelError says that a kernel's name is not one of [KernelNames].
type UnknownKernelError struct{ Name string }

// Error includes the nearest name, and all of them.
func (e *UnknownKernelError) Error() string {
	known := KernelNames()
	return fmt.Sprintf("no kernel %q%s (known: %s)",
		e.Name, spelling.Hint(e.Name, known), strings.Join(known, ", "))
}

// CheckKernelName returns an [*UnknownKernelError] for a name outside [KernelNames].
func CheckKernelName(name string) error {
	if !slices.Contains(KernelNames(), name) {
		return &UnknownKernelError{name}
	}
	return nil
}

// findDistro returns the distribution and the suite of a kernel's name.
func findDistro(name string) (*distro, string, error) {
	for i := range distros {
		if d := &distros[i]; slices.Contains(d.names(), name) {
			return d, strings.TrimPrefix(name, d.id+"/"), nil
		}
	}
	return nil, "", &UnknownKernelError{name}
}
