package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctload/ctload/agent/tuning"
)

// The parameters of connection tracking that all network namespaces of a kernel share, older kernels let any
// of them write. Every other one, the timeouts above all, belongs to its namespace and begins at the kernel's
// default.
var sharedKeys = []string{maxKey, bucketsKey, "net.netfilter.nf_conntrack_expect_max"}

const (
	maxKey     = "net.netfilter.nf_conntrack_max"
	bucketsKey = "net.netfilter.nf_conntrack_buckets"
)

// hostWide reports whether a parameter, by its canonical key, is the host's: one that is not of the network, or
// that connection tracking shares, or that the namespace of this process (in the sandbox, one like the
// DUT's) has not, or cannot write. Folders that are not there yet may come with a card or a module.
func hostWide(key string) bool {
	if !strings.HasPrefix(key, "net.") || slices.Contains(sharedKeys, key) {
		return true
	}
	info, err := os.Stat(hostPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(filepath.Dir(hostPath(key)))
		return err == nil
	}
	return err == nil && info.Mode().Perm()&0o222 == 0
}

// HostWide says what in settings is the host's and not the DUT's alone, a phrase each: empty when all of it can
// be had in a namespace.
func HostWide(s tuning.Settings) []string {
	var list []string
	host, _ := split(s)
	for _, p := range host {
		list = append(list, p.Key)
	}
	return append(list, ModuleChanges(s)...)
}

// ModuleChanges says which modules settings want to come or go that are not so already, a phrase each. They are
// the whole kernel's, and what they did to others meanwhile cannot be put back. (What a rule needs, the kernel
// loads by itself when the rule comes.)
func ModuleChanges(s tuning.Settings) []string {
	var list []string
	for _, name := range s.RemoveModules {
		if hasModule(name) {
			list = append(list, "module "+name+" removed")
		}
	}
	for _, entry := range s.LoadModules {
		name, parameters, _ := strings.Cut(strings.TrimSpace(entry), " ")
		if !hasModule(name) || parameters != "" {
			list = append(list, "module "+entry+" loaded")
		}
	}
	return list
}

// hasModule reports whether the kernel has a module now.
func hasModule(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/module", strings.ReplaceAll(name, "-", "_")))
	return err == nil
}

// Tracks reports whether connection tracking is in this kernel now. Only root can load it.
func Tracks() bool { return hasModule("nf_conntrack") }

// split divides settings into parameters of the host, in the order in which they are to be set, and what is
// left for the namespace.
func split(s tuning.Settings) (host []tuning.Sysctl, own tuning.Settings) {
	own = s
	own.Buckets, own.Sysctl = 0, nil
	if s.Buckets > 0 {
		host = append(host, tuning.Sysctl{Key: bucketsKey, Value: fmt.Sprint(s.Buckets)})
	}
	for _, p := range s.Sysctl {
		key, _ := tuning.CanonicalKey(p.Key)
		if hostWide(key) {
			host = append(host, tuning.Sysctl{Key: key, Value: p.Value})
		} else {
			own.Sysctl = append(own.Sysctl, p)
		}
	}
	return host, own
}
