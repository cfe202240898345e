package results

import (
	"fmt"
	"regexp"
	"strconv"
)

// KernelVersion is the part of a kernel release that sizing rules depend on.
type KernelVersion struct {
	Major, Minor int
}

var release = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:[.~+-]|$)`)

// ParseKernel reads the version from a release, as in uname -r: "6.1.0-37-cloud-amd64", "5.15".
func ParseKernel(s string) (KernelVersion, error) {
	m := release.FindStringSubmatch(s)
	if m == nil {
		return KernelVersion{}, fmt.Errorf("%q is not a kernel version, which begins with two numbers, such as 6.12", s)
	}
	// The form has room for no number that would be too large.
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return KernelVersion{major, minor}, nil
}

// AtLeast reports whether the version is the given one or later.
func (v KernelVersion) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v KernelVersion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// TableSize is the size of a table: entries at most, and hash buckets.
type TableSize struct {
	Max     int64 `json:"max"`
	Buckets int64 `json:"buckets"`
}

// DefaultSize is the table that a 64-bit kernel makes when nothing is set, on a machine whose
// kernel sees the given memory (MemTotal, which is below what the machine was given: a 4 GiB VM
// is below the step at 4 GiB). From nf_conntrack_init_start:
//
//   - to 3.18: memory / 16384 / 8 buckets, 16384 above 1 GiB, at least 32; max is 4 times that
//   - from 3.19: also 65536 buckets above 4 GiB
//   - from 5.15: 65536 buckets above 1 GiB, 262144 above 4 GiB, at least 1024; max is equal to it
//
// The hash is allocated in whole pages, so the number of buckets is rounded up to 512.
func DefaultSize(v KernelVersion, memory int64) TableSize {
	const gib = 1 << 30
	buckets := memory / 16384 / BucketBytes
	if v.AtLeast(5, 15) {
		switch {
		case memory > 4*gib:
			buckets = 262144
		case memory > gib:
			buckets = 65536
		default:
			buckets = max(buckets, 1024)
		}
		buckets = wholePages(buckets)
		return TableSize{Max: buckets, Buckets: buckets}
	}
	switch {
	case memory > 4*gib && v.AtLeast(3, 19):
		buckets = 65536
	case memory > gib:
		buckets = 16384
	default:
		buckets = max(buckets, 32)
	}
	buckets = wholePages(buckets)
	return TableSize{Max: 4 * buckets, Buckets: buckets}
}

// sizingRule is the rule of [DefaultSize] that a kernel of this version follows with this much memory, in words.
func sizingRule(v KernelVersion, memory int64) string {
	const gib = 1 << 30
	size := DefaultSize(v, memory)
	kernels, maximum := "from 5.15 on", "max is equal to them"
	switch {
	case v.AtLeast(5, 15):
	case v.AtLeast(3, 19):
		kernels, maximum = "from 3.19 to 5.14", "max is 4 times that"
	default:
		kernels, maximum = "up to 3.18", "max is 4 times that"
	}
	rule := "memory / 16384 / 8, in whole pages of 512"
	switch {
	case memory > 4*gib && v.AtLeast(3, 19):
		rule = "a fixed number above 4 GiB"
	case memory > gib:
		rule = "a fixed number above 1 GiB"
	}
	return fmt.Sprintf("Kernel %s by itself makes %s buckets with %s of memory (kernels %s: %s), and %s: %s.",
		v, Count(size.Buckets), Bytes(memory), kernels, rule, maximum, Count(size.Max))
}

func wholePages(buckets int64) int64 {
	const inPage = 4096 / BucketBytes
	return (buckets + inPage - 1) / inPage * inPage
}

// FolkMax is the formula that guides and alert texts still quote for nf_conntrack_max on 64 bits:
// RAM / 16384 / (64 / 32). It is the rule of old kernels without its steps.
func FolkMax(memory int64) int64 { return memory / 16384 / 2 }
