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
	"github.com/ctload/ctload/internal/kernels"
)

// hostWide reports whether a parameter, by its canonical key, is the host's: one that is not of the network, or
// that connection tracking shares, or that the namespace of this process (in the sandbox, one like the
// DUT's) has not, or cannot write. Folders that are not there yet may come with a card or a module.
func hostWide(key string) bool {
	if !strings.HasPrefix(key, "net.") || slices.Contains(kernels.SharedKeys, key) {
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
	for _, p := range host.Sysctl {
		list = append(list, p.Key)
	}
	return append(list, moduleChanges(s)...)
}

// Tracks reports whether connection tracking is in this kernel now. Only root can load it.
func Tracks() bool { return hasModule(kernels.Module) }

// split divides settings into what is the host's, its parameters in the order in which they are to be set, and what is
// left for the namespace.
func split(s tuning.Settings) (host, own tuning.Settings) {
	own = s
	host.LoadModules, host.RemoveModules = s.LoadModules, s.RemoveModules
	own.LoadModules, own.RemoveModules, own.Buckets, own.Sysctl = nil, nil, 0, nil
	if s.Buckets > 0 {
		host.Sysctl = append(host.Sysctl, tuning.Sysctl{Key: kernels.KeyBuckets, Value: fmt.Sprint(s.Buckets)})
	}
	for _, p := range s.Sysctl {
		key, _ := kernels.Key(p.Key)
		if hostWide(key) {
			host.Sysctl = append(host.Sysctl, tuning.Sysctl{Key: key, Value: p.Value})
		} else {
			own.Sysctl = append(own.Sysctl, p)
		}
	}
	return host, own
}
