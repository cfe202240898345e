package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/vm/journal"
)

func TestModuleChanges(t *testing.T) {
	there := ""
	entries, err := os.ReadDir("/sys/module")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.ContainsAny(e.Name(), "-") {
			there = e.Name()
		}
	}
	list := moduleChanges(tuning.Settings{
		LoadModules:   []string{there, there + " hashsize=4096", "nf_no_such"},
		RemoveModules: []string{there, "nf_no_such"},
	})
	want := []string{"module " + there + " removed", "module " + there + " hashsize=4096 loaded",
		"module nf_no_such loaded"}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
}

// TestModulesOfThisHost asks the kernel of this host for a module that does not exist: modprobe
// reports that where the kernel has loadable modules.
func TestModulesOfThisHost(t *testing.T) {
	err := CheckModules(t.Context(), tuning.Settings{LoadModules: []string{"nf_no_such"}})
	want := "nf_no_such"
	if _, none := os.Stat("/proc/modules"); errors.Is(none, fs.ErrNotExist) {
		want = "no loadable modules"
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q", err, want)
	}
	if err := CheckModules(t.Context(), tuning.Settings{}); err != nil {
		t.Errorf("of no modules: %v", err)
	}
}

func TestParseDepends(t *testing.T) {
	got := parseDepends(`builtin nf_defrag_ipv4
insmod /lib/modules/6.1.0-37/kernel/net/netfilter/nf-conntrack.ko hashsize=4096
insmod /lib/modules/6.1.0-37/kernel/net/netfilter/nf_conntrack_ftp.ko.xz ports=21

install /bin/true
`)
	if diff := cmp.Diff([]string{"nf_conntrack", "nf_conntrack_ftp"}, got); diff != "" {
		t.Error(diff)
	}
}

// pretended is a kernel with modules, for hosts without. Each change must be in the journal first.
type pretended struct {
	t       *testing.T
	journal *journal.Journal
	modules map[string]tuning.Module
	with    map[string]string // parameters of loaded modules
	calls   []string
}

func (p *pretended) loaded() (map[string]tuning.Module, error) { return maps.Clone(p.modules), nil }

func (p *pretended) needs(_ context.Context, name string) ([]string, error) {
	if name == "nf_no_such" {
		return nil, errors.New("not found")
	}
	if name == "nf_wanted_x" {
		return []string{"nf_nat_x", name}, nil
	}
	return []string{name}, nil
}

func (p *pretended) parameters(name string) []string { return strings.Fields(p.with[name]) }

func (p *pretended) load(ctx context.Context, name string, parameters []string) error {
	needs, err := p.needs(ctx, name)
	for _, each := range needs {
		p.recorded(each)
		p.modules[each] = tuning.Module{}
	}
	p.with[name] = strings.Join(parameters, " ")
	p.calls = append(p.calls, fmt.Sprint("load ", name, parameters))
	return err
}

func (p *pretended) remove(_ context.Context, name string) error {
	p.recorded(name)
	delete(p.modules, name)
	p.calls = append(p.calls, "remove "+name)
	return nil
}

func (p *pretended) recorded(name string) {
	if p.journal == nil {
		return
	}
	if !slices.ContainsFunc(p.journal.Left(),
		func(e journal.Entry) bool { return e.Kind == journal.HostModule && e.Name == name }) {
		p.t.Errorf("%s is changed before it is recorded: %v", name, p.journal.Left())
	}
}

// TestModulesArePutBack removes modules with their users, and loads one with its needs, on a
// pretended kernel; then the run ends, or is killed and gc follows, and the kernel has its former
// modules.
func TestModulesArePutBack(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			folder := t.TempDir()
			j, err := journal.Create(folder, "test", os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			kernel := &pretended{t: t, journal: j,
				with: map[string]string{"nf_used_x": "ports=21,2121 loose=Y"},
				modules: map[string]tuning.Module{
					"nf_used_x": {UsedBy: []string{"nf_user_x"}}, "nf_user_x": {}, "nf_other_x": {},
				}}
			host := hostModules
			hostModules = kernel
			t.Cleanup(func() { hostModules = host })

			s := NewSettings(j)
			err = s.Apply(t.Context(), tuning.Settings{
				RemoveModules: []string{"nf-used-x", "nf_absent_x"},
				LoadModules:   []string{"nf_wanted_x trace=1"},
			})
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff([]string{"remove nf_user_x", "remove nf_used_x",
				"load nf_wanted_x[trace=1]"}, kernel.calls)
			if diff != "" {
				t.Errorf("done (-want +got):\n%s", diff)
			}
			kernel.calls = nil
			if killed {
				// A dead run leaves its journal.
				kernel.journal = nil
				if _, left := errors.AsType[*journal.LeftError](j.Close()); !left {
					t.Fatal("the journal is empty")
				}
				err = journal.Collect(t.Context(), journal.Options{
					Folder:   folder,
					Removers: map[journal.Kind]journal.Remover{journal.HostModule: Remover{}},
					Tell:     func(journal.Finding) {},
				})
			} else {
				err = errors.Join(s.Restore(), j.Close())
			}
			if err != nil {
				t.Error(err)
			}
			diff = cmp.Diff([]string{"remove nf_wanted_x", "remove nf_nat_x",
				"load nf_used_x[ports=21,2121 loose=Y]", "load nf_user_x[]"}, kernel.calls)
			if diff != "" {
				t.Errorf("put back (-want +got):\n%s", diff)
			}
			diff = cmp.Diff([]string{"nf_other_x", "nf_used_x", "nf_user_x"},
				slices.Sorted(maps.Keys(kernel.modules)))
			if diff != "" {
				t.Errorf("loaded in the end (-want +got):\n%s", diff)
			}
			if left, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || len(left) > 0 {
				t.Errorf("the journal is left: %v %v", left, err)
			}
		})
	}
}

// TestModulesThatCannotBeHad expects the refusal before any change.
func TestModulesThatCannotBeHad(t *testing.T) {
	host := hostModules
	hostModules = &pretended{t: t, modules: map[string]tuning.Module{}}
	t.Cleanup(func() { hostModules = host })
	for _, tc := range []struct {
		asked tuning.Settings
		word  string
	}{
		{tuning.Settings{LoadModules: []string{"nf_no_such"}}, "not found"},
		{tuning.Settings{LoadModules: []string{kernels.Module + " hashsize=1"}},
			"does not get hashsize=1"},
		{tuning.Settings{RemoveModules: []string{kernels.Module}}, "built into"},
	} {
		if !Tracks() && tc.word != "not found" {
			continue // the case concerns a module that this host has
		}
		err := CheckModules(t.Context(), tc.asked)
		if err == nil || !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%+v: %v; want %q", tc.asked, err, tc.word)
		}
	}
}
