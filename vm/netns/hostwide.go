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

// hostWide reports whether a parameter, by its canonical key, belongs to the host: one outside of
// net., one that connection tracking shares, or one that the namespace of this process (in the
// sandbox, like the DUT's) lacks or cannot write. Folders that do not exist yet may come with a
// card or a module.
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

// HostWide lists what in settings belongs to the host and not to the DUT alone, a phrase each:
// empty when a namespace can have all of it.
func HostWide(s tuning.Settings) []string {
	var list []string
	host, _ := split(s)
	for _, p := range host.Sysctl {
		list = append(list, p.Key)
	}
	return append(list, moduleChanges(s)...)
}

// Tracks reports whether this kernel has connection tracking now. Only root can load it.
func Tracks() bool { return hasModule(kernels.Module) }

// split divides settings into the host's, with parameters in the order in which to set them, and
// those of the namespace.
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
