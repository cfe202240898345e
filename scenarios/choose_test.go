package scenarios

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func names(e *Experiment) string {
	var names []string
	for _, r := range e.Resolve() {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

const chosen = `
experiment: chosen
dut:
  kernel: ./vmlinuz
  kernel-modules: ./modules
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate NEW -j ACCEPT
    COMMIT
workload: [{generator: syn, flows: 10, rate: 1/s}]
scenarios:
  a: {vcpus: [1, 2]}
  b: {kernel: debian/sid}
thresholds:
  a: conntrack.drop == 0
  b: conntrack.drop == 1
  all: conntrack.drop == 2
`

func parsed(t *testing.T, text string) *Experiment {
	t.Helper()
	e, warnings, err := Parse("test.yaml", []byte(text))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	return e
}

func TestSelect(t *testing.T) {
	e := parsed(t, chosen)
	if got := names(e); got != "a@vcpus=1 a@vcpus=2 b" {
		t.Fatalf("scenarios: %s", got)
	}
	a := e.Resolve()[1]
	if a.Base != "a" || !cmp.Equal(a.Matrix, []Setting{{Key: "vcpus", Value: "2"}}) {
		t.Errorf("variant: %+v", a)
	}
	err := e.Select([]string{"c"})
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok || !strings.Contains(invalid.Error(), "valid here: a, a@vcpus=1, a@vcpus=2, b") {
		t.Errorf("an unknown scenario: %v", err)
	}
	if got := names(e); got != "a@vcpus=1 a@vcpus=2 b" {
		t.Errorf("a failed choice has changed the experiment: %s", got)
	}
	if err := e.Select([]string{"b", "a@vcpus=2"}); err != nil {
		t.Fatal(err)
	}
	if got := names(e); got != "a@vcpus=2 b" {
		t.Errorf("chosen: %s", got)
	}
	if err := e.Select([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	if got := names(e); got != "a@vcpus=2" || len(e.Thresholds) != 2 {
		t.Errorf("chosen by base name: %s, thresholds %v", got, e.Thresholds)
	}
	if err := e.Select(nil); err == nil {
		t.Error("choosing nothing succeeds")
	}
}

func TestSetKernels(t *testing.T) {
	e := parsed(t, chosen)
	if err := e.SetKernels([]string{"debian/bookworm", "debian/trixie"}); err != nil {
		t.Fatal(err)
	}
	want := "a@kernel=debian-bookworm@vcpus=1 a@kernel=debian-bookworm@vcpus=2 " +
		"a@kernel=debian-trixie@vcpus=1 a@kernel=debian-trixie@vcpus=2 " +
		"b@kernel=debian-bookworm b@kernel=debian-trixie"
	if got := names(e); got != want {
		t.Errorf("scenarios: %s", got)
	}
	for _, r := range e.Resolve() {
		kernel := strings.ReplaceAll(r.DUT.Kernel, "/", "-")
		if !strings.Contains(r.Name, kernel) || r.DUT.KernelModules != "" {
			t.Errorf("%s runs on %s, modules %q", r.Name, kernel, r.DUT.KernelModules)
		}
	}
	before := names(e)
	const twice = "debian/bookworm"
	for _, bad := range [][]string{nil, {"bookworm"}, {twice, twice}, {""}} {
		var invalid *InvalidError
		if err := e.SetKernels(bad); !errors.As(err, &invalid) {
			t.Errorf("kernels %q: %v", bad, err)
		}
	}
	if got := names(e); got != before {
		t.Errorf("a failed choice has changed the experiment: %s", got)
	}
	if err := e.SetKernels([]string{"debian/sid"}); err != nil {
		t.Fatal(err)
	}
	if got := names(e); got != "a@vcpus=1 a@vcpus=2 b" {
		t.Errorf("one kernel gives no variants: %s", got)
	}
}

// TestKernelPaths: kernels by path stand beside those by name, in a file and on the command line.
func TestKernelPaths(t *testing.T) {
	e := parsed(t, strings.Replace(chosen, "kernel: ./vmlinuz\n  kernel-modules: ./modules",
		"kernel: [debian/bookworm, ./vmlinuz, /boot/vmlinuz-6.12.0]", 1))
	want := "a@kernel=debian-bookworm@vcpus=1 a@kernel=debian-bookworm@vcpus=2 " +
		"a@kernel=.-vmlinuz@vcpus=1 a@kernel=.-vmlinuz@vcpus=2 " +
		"a@kernel=-boot-vmlinuz-6.12.0@vcpus=1 a@kernel=-boot-vmlinuz-6.12.0@vcpus=2 b"
	if got := names(e); got != want {
		t.Errorf("scenarios: %s", got)
	}
	if err := e.SetKernels([]string{"./vmlinuz", "/boot/vmlinuz-6.12.0"}); err != nil {
		t.Fatal(err)
	}
	kernels := map[string]int{}
	for _, r := range e.Resolve() {
		kernels[r.DUT.Kernel]++
	}
	each := map[string]int{"./vmlinuz": 3, "/boot/vmlinuz-6.12.0": 3}
	if diff := cmp.Diff(each, kernels); diff != "" {
		t.Error(diff)
	}
}

func TestInvalidPointsAtTheFile(t *testing.T) {
	e := parsed(t, chosen)
	got := e.Invalid(e.Thresholds[1].Position, "does not compile").Error()
	want := `test.yaml:16:6: does not compile
    15 |   a: conntrack.drop == 0
>   16 |   b: conntrack.drop == 1
       |      ^`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSubstitute(t *testing.T) {
	topology := Topology{Kind: Router, Families: []Family{IPv4}}
	c := Configuration{
		Rules: "-o ${server.interface} -s ${client.network} ${server.interface}",
		NFT:   "oif ${server.interface}",
	}
	values := map[string]string{"server.interface": "eth1", "client.network": "10.0.0.0/24"}
	filled, err := c.Substitute(values)
	if err != nil || filled.Rules != "-o eth1 -s 10.0.0.0/24 eth1" || filled.NFT != "oif eth1" {
		t.Errorf("%+v, %v", filled, err)
	}
	delete(values, "server.interface")
	_, err = c.Substitute(values)
	if err == nil || !strings.Contains(err.Error(), "server.interface") {
		t.Errorf("a placeholder without a value: %v", err)
	}
	want := []string{
		"client.interface", "client.network", "client.address", "dut.client.address",
		"server.interface", "server.network", "server.address", "dut.server.address",
	}
	if diff := cmp.Diff(want, topology.placeholders()); diff != "" {
		t.Error(diff)
	}
}

func TestLoadPaths(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "own.yaml")
	if err := os.WriteFile(file, []byte(chosen), 0o600); err != nil {
		t.Fatal(err)
	}
	e, _, err := Load(file)
	if err != nil || e.Name != "chosen" || e.Resolve()[0].Position.File != file {
		t.Errorf("%+v, %v", e, err)
	}
	t.Chdir(folder)
	if err := os.Rename("own.yaml", "own"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load("own"); err != nil {
		t.Errorf("a file without an ending: %v", err)
	}
	for _, missing := range []string{"own.yaml", "./own2", folder + "/none.yaml", "own2", ""} {
		_, _, err := Load(missing)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", missing, err)
		}
	}
	for _, bad := range []string{"/dev/zero", folder, "./"} {
		_, _, err := Load(bad)
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
