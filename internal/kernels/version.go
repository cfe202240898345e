// Package kernels holds facts about the kernels of distributions and of connection tracking in them,
// by version: sizes, timeouts, the names of parameters and modules, and what came and went. It is the
// one home of such a fact; a trial asks the kernel itself and needs none of them.
package kernels

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Version is the part of a kernel release that the facts depend on.
type Version struct {
	Major, Minor int
}

var release = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:[.~+-]|$)`)

// Parse reads the version from a release, as in uname -r: "6.1.0-37-cloud-amd64", "5.15".
func Parse(s string) (Version, error) {
	m := release.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%q is not a kernel version, which begins with two numbers, such as 6.12", s)
	}
	// The form has room for no number that would be too large.
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}, nil
}

// AtLeast reports whether the version is the given one or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// TracksUnasked reports whether a kernel tracks connections without a rule that needs it. Linux 4.14
// registers the hooks only when one does.
func (v Version) TracksUnasked() bool { return !v.AtLeast(4, 14) }

// LimitsChains reports whether an insert into a long hash chain fails (chain_toolong): from Linux 5.15
// on, at 50 to 79 entries (nf_conntrack_core.c, MIN_CHAINLEN, MAX_CHAINLEN).
func (v Version) LimitsChains() bool { return v.AtLeast(5, 15) }

// HasBucketsKey reports whether the size of the hash is a sysctl: from Linux 4.8 on. Before, it is the
// parameter hashsize of the module alone.
func (v Version) HasBucketsKey() bool { return v.AtLeast(4, 8) }

// LastUnlimited is the last version for which nf_conntrack_max = 0 means no limit; later ones refuse 0.
var LastUnlimited = Version{6, 18}

// HostName is the name of this host's own kernel.
const HostName = "host"

// versions are those of the kernels that distributions ship under their names.
var versions = map[string]Version{
	"debian/bullseye": {5, 10}, "debian/bookworm": {6, 1}, "debian/trixie": {6, 12},
	"ubuntu/focal": {5, 4}, "ubuntu/jammy": {5, 15}, "ubuntu/noble": {6, 8},
}

// recent stands for names whose kernel moves on: sid, backports, later releases.
var recent = Version{6, 12}

// Named returns the version that the name or the path of a kernel stands for: of [HostName] that of
// the running kernel, of an image that in its file's name. It is exact to the point where the facts
// of this package changed.
func Named(name string) Version {
	if v, ok := versions[name]; ok {
		return v
	}
	release := strings.TrimPrefix(filepath.Base(name), "vmlinuz-")
	if name == HostName {
		release = Running()
	}
	if v, err := Parse(release); err == nil {
		return v
	}
	return recent
}

// Running returns the release of the running kernel (uname -r), empty if it does not tell.
func Running() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
