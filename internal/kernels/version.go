// Package kernels holds facts about connection tracking by kernel version: sizes, timeouts, the
// names of parameters and modules, and the kernels of distributions. It is the one home of such a
// fact; a trial asks the kernel itself and needs none of them.
package kernels

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
		return Version{}, fmt.Errorf("%q is not a kernel version, such as 6.12", s)
	}
	major, _ := strconv.Atoi(m[1]) // the form bounds its digits
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}, nil
}

// AtLeast reports whether the version is the given one or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// TracksUnasked reports whether a kernel tracks connections without a rule that needs it: before
// Linux 4.14.
func (v Version) TracksUnasked() bool { return !v.AtLeast(4, 14) }

// LimitsChains reports whether an insert into a long hash chain fails (chain_toolong): from Linux
// 5.15 on, at 50 to 79 entries (nf_conntrack_core.c, MIN_CHAINLEN, MAX_CHAINLEN).
func (v Version) LimitsChains() bool { return v.AtLeast(5, 15) }

// HasBucketsKey reports whether the size of the hash is a sysctl: from Linux 4.8 on. Before, it is
// only the parameter hashsize of the module.
func (v Version) HasBucketsKey() bool { return v.AtLeast(4, 8) }

// LastUnlimited is the last version with nf_conntrack_max = 0 for no limit; later ones refuse 0.
var LastUnlimited = Version{6, 18}

// HostName is the name of this host's own kernel.
const HostName = "host"

// versions are the versions of the kernels that distributions ship, by name.
var versions = map[string]Version{
	"debian/bullseye": {5, 10}, "debian/bookworm": {6, 1}, "debian/trixie": {6, 12},
	"ubuntu/focal": {5, 4}, "ubuntu/jammy": {5, 15}, "ubuntu/noble": {6, 8},
}

// recent stands for names whose kernel moves on: sid, backports, later releases.
var recent = Version{6, 12}

// Named returns the version that the name or the path of a kernel stands for: of [HostName] that of
// the running kernel, of an image that in its file's name. It is exact enough for the facts of this
// package.
func Named(name string) Version {
	release := strings.TrimPrefix(filepath.Base(name), "vmlinuz-")
	if name == HostName {
		release = Running()
	}
	v, _ := Parse(release)
	return cmp.Or(versions[name], v, recent)
}

// Closest returns the name of the distribution's kernel whose version is the closest to v.
func Closest(v Version) string {
	distance := func(name string) int {
		of := versions[name]
		d := (of.Major-v.Major)*100 + of.Minor - v.Minor
		return max(d, -d)
	}
	return slices.MinFunc(slices.Sorted(maps.Keys(versions)), func(a, b string) int {
		return cmp.Compare(distance(a), distance(b))
	})
}

// Running returns the release of the running kernel (uname -r), empty if it does not tell.
func Running() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// BootID identifies this boot of the host; it is empty where it cannot be read.
func BootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// Sizes in memory. The entry is the slab object of 6.1, 6.12 and 6.18 (256 B with
// SLAB_HWCACHE_ALIGN); older kernels have 304 to 384 B, and each extension in use (accounting,
// timestamps, labels, NAT, helpers, events) is another allocation of 128 B or more.
const (
	entryBytes  = 256
	bucketBytes = 8
)

// Size is the size of a table: entries at most, and hash buckets.
type Size struct {
	Max     int64 `json:"max"`
	Buckets int64 `json:"buckets"`
}

// Bytes returns the memory of a full table and its hash, with entries of objectBytes, 0 for
// [entryBytes].
func (s Size) Bytes(objectBytes int64) int64 {
	return s.Max*cmp.Or(objectBytes, entryBytes) + s.Buckets*bucketBytes
}

// The steps in memory at which the default number of buckets changes.
const (
	FirstStep  = 1 << 30
	SecondStep = 4 << 30
)

// DefaultSize returns the table that a 64-bit kernel makes by itself where it sees the given memory
// (MemTotal; a VM of 4 GiB stays below the step at 4 GiB). From nf_conntrack_init_start:
//
//   - to 3.18: memory / 16384 / 8 buckets, 16384 above 1 GiB, at least 32; max is 4 times that
//   - from 3.19: also 65536 buckets above 4 GiB
//   - from 5.15: 65536 buckets above 1 GiB, 262144 above 4 GiB, at least 1024; max is equal to it
//
// The hash is allocated in whole pages, so the number of buckets is rounded up to 512.
func DefaultSize(v Version, memory int64) Size {
	least, above1, above4, factor := int64(32), int64(16384), int64(16384), int64(4)
	switch {
	case v.MaxIsBuckets():
		least, above1, above4, factor = 1024, 65536, 262144, 1
	case v.HasSecondStep():
		above4 = 65536
	}
	buckets := max(memory/16384/bucketBytes, least)
	switch {
	case memory > SecondStep:
		buckets = above4
	case memory > FirstStep:
		buckets = above1
	}
	buckets = RoundBuckets(buckets, pageBuckets)
	return Size{Max: factor * buckets, Buckets: buckets}
}

// MaxIsBuckets reports whether the default max is the number of buckets: from Linux 5.15 on. Until
// then it is four times that.
func (v Version) MaxIsBuckets() bool { return v.AtLeast(5, 15) }

// HasSecondStep reports whether the number of buckets rises at 4 GiB too: from Linux 3.19 on.
func (v Version) HasSecondStep() bool { return v.AtLeast(3, 19) }

const pageBuckets = 4096 / bucketBytes

// RoundBuckets returns the number of buckets that the kernel allocates for n: whole pages, each of
// multiple buckets (nf_ct_alloc_hashtable); a multiple of 0 leaves n as it is.
func RoundBuckets(n, multiple int64) int64 {
	if multiple <= 0 {
		return n
	}
	return (n + multiple - 1) / multiple * multiple
}

// FolkMax computes the formula that guides and alert texts still quote for nf_conntrack_max on 64
// bits: RAM / 16384 / (64 / 32). It is the rule of old kernels without its steps.
func FolkMax(memory int64) int64 { return memory / 16384 / 2 }

// Loading returns the lines of a list that load a module, as "nf_conntrack hashsize=4096": those
// whose module no line before them names. A module that is there already does not get the
// parameters of a later line, and the kernel does not say so.
func Loading(lines []string) (loading []string) {
	seen := map[string]bool{}
	for _, line := range lines {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name = strings.ReplaceAll(name, "-", "_"); !seen[name] {
			seen[name] = true
			loading = append(loading, line)
		}
	}
	return loading
}

// LoadedSize returns the table that a line to load a module asks for, as nf_conntrack
// hashsize=4096: max is 8 times the hash in all versions. ok is false where the line has no size.
func LoadedSize(module string) (size Size, ok bool) {
	words := strings.Fields(module)
	if len(words) == 0 || words[0] != Module {
		return Size{}, false
	}
	for _, word := range words[1:] {
		if text, is := strings.CutPrefix(word, "hashsize="); is {
			n, err := strconv.ParseInt(text, 10, 64)
			size, ok = Size{Max: 8 * n, Buckets: n}, err == nil
		}
	}
	return size, ok
}

// VisibleMemory returns about what the kernel of a guest sees of its memory (MemTotal): with
// Debian's 6.1 it is 470 of 512 MiB and 218 of 256 MiB.
func VisibleMemory(given int64) int64 {
	const own = 34 << 20
	return max(given-given/64-own, given/2)
}
