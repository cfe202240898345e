package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/sandbox"
)

// Settings holds the parameters and modules of the host's kernel that a run changes: recorded
// before, restored after. Changes need root in the initial namespaces.
type Settings struct {
	journal *journal.Journal
	mu      sync.Mutex // held for a whole change
}

// NewSettings changes nothing yet. It records each later change in j first.
func NewSettings(j *journal.Journal) *Settings { return &Settings{journal: j} }

// Apply applies modules and parameters alone, each after its former state is on the disk.
func (s *Settings) Apply(ctx context.Context, asked tuning.Settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range asked.RemoveModules {
		if err := s.removeModule(ctx, name); err != nil {
			return err
		}
	}
	for _, entry := range asked.LoadModules {
		if err := s.loadModule(ctx, entry); err != nil {
			return err
		}
	}
	for _, p := range asked.Sysctl {
		old, err := readHost(p.Key)
		if err != nil {
			return err
		}
		if err := s.record(journal.HostSetting, p.Key, old); err != nil {
			return err
		}
		if err := writeHost(p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// record notes a former state in the journal.
func (s *Settings) record(kind journal.Kind, name, state string) error {
	return s.journal.Record(journal.Entry{Kind: kind, Name: name, Detail: state})
}

// Restore restores every former state, the last change first; nil Settings have none.
func (s *Settings) Restore() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, e := range slices.Backward(s.journal.Left()) {
		if !e.Kind.OfHost() {
			continue
		}
		err := putBack(context.Background(), e)
		if err == nil {
			err = s.journal.Gone(e)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Leaves lists the kinds of things that a killed run leaves.
var Leaves = []journal.Kind{journal.HostSetting, journal.HostModule}

// Remover restores settings and modules that a killed run changed. It is a [journal.Remover].
type Remover struct{}

// Exists reports whether the setting or the module differs from its state before the run.
func (Remover) Exists(_ context.Context, _ journal.Run, e journal.Entry) (bool, error) {
	if e.Kind == journal.HostModule {
		return moduleChanged(e)
	}
	now, err := readHost(e.Name)
	// The setting went with its module. The later record of the module is restored first.
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && now != e.Detail, err
}

// Remove restores the former state. It needs root in the initial namespaces.
func (Remover) Remove(ctx context.Context, _ journal.Run, e journal.Entry) error {
	return putBack(ctx, e)
}

func putBack(ctx context.Context, e journal.Entry) error {
	if e.Kind == journal.HostModule {
		return putModuleBack(ctx, e)
	}
	if err := writeHost(e.Name, e.Detail); err != nil {
		return fmt.Errorf("put it back: %w", err)
	}
	now, err := readHost(e.Name)
	if err == nil && now != e.Detail {
		err = fmt.Errorf("put %s back to %s: it is %s", e.Name, e.Detail, now)
	}
	return err
}

// Changeable returns an error unless this process may change the host's connection tracking: as
// root, in the initial network namespace, with writable parameters.
func Changeable() error {
	if os.Getuid() != 0 {
		return errors.New("you are not root")
	}
	file, err := os.OpenFile(hostPath(kernels.KeyMax), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("not the host's own network namespace, or read-only settings: %w", err)
	}
	return file.Close()
}

// hostPath returns the file of a parameter by its canonical key.
func hostPath(key string) string {
	return filepath.Join("/proc/sys", strings.NewReplacer(".", "/", "/", ".").Replace(key))
}

func readHost(key string) (value string, err error) {
	err = sandbox.OnHost(func() error {
		text, err := os.ReadFile(hostPath(key))
		value = strings.TrimSpace(string(text))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read %s of the host: %w", key, err)
	}
	return value, nil
}

func writeHost(key, value string) error {
	err := sandbox.OnHost(func() error {
		return os.WriteFile(hostPath(key), []byte(strings.TrimSpace(value)+"\n"), 0)
	})
	if err != nil {
		return fmt.Errorf("set %s of the host to %s: %w", key, strings.TrimSpace(value), err)
	}
	return nil
}

// hostWide reports whether a parameter, by its canonical key, belongs to the host: one outside of
// net., one that connection tracking shares, or one that this process's namespace lacks or cannot
// write. A folder that does not exist yet may come with a card or a module, and what no kernel is
// known to have is a mistake, which setting it shows.
func hostWide(key string) bool {
	if !strings.HasPrefix(key, "net.") || slices.Contains(kernels.SharedKeys, key) {
		return true
	}
	info, err := os.Stat(hostPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(filepath.Dir(hostPath(key)))
		return err == nil && kernels.KnownSysctl(key)
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

// split divides settings into the host's, in the order in which to set them, and the namespace's.
func split(s tuning.Settings) (host, own tuning.Settings) {
	own = s
	host.LoadModules, host.RemoveModules = s.LoadModules, s.RemoveModules
	own.LoadModules, own.RemoveModules, own.Buckets, own.Sysctl = nil, nil, 0, nil
	if s.Buckets > 0 {
		buckets := tuning.Sysctl{Key: kernels.KeyBuckets, Value: fmt.Sprint(s.Buckets)}
		host.Sysctl = append(host.Sysctl, buckets)
	}
	for _, p := range s.Sysctl {
		key, _ := kernels.Key(p.Key)
		switch wide := hostWide(key); {
		case wide && p.Optional: // it may be missing
		case wide:
			host.Sysctl = append(host.Sysctl, tuning.Sysctl{Key: key, Value: p.Value})
		default:
			own.Sysctl = append(own.Sysctl, p)
		}
	}
	return host, own
}
