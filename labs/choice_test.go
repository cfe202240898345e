package labs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/scenarios"
)

// read returns an experiment given as text, and its scenarios.
func read(t *testing.T, text string) (*scenarios.Experiment, []scenarios.Resolved) {
	t.Helper()
	experiment, _, err := scenarios.Parse("experiment.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return experiment, experiment.Resolve()
}

const twoScenarios = `
experiment: two
dut: {memory: 256MiB, rules: "*filter\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"}
workload: [{generator: tcp, connections: 1, concurrency: 1}]
scenarios:
  timeouts: {sysctl: {net.netfilter.nf_conntrack_tcp_timeout_close: 5}}
  max: {sysctl: {net.netfilter.nf_conntrack_max: 5}}
`

// actsOn returns an experiment with one action.
func actsOn(kind, more string) string {
	return fmt.Sprintf(`
experiment: acting
workload: [{generator: tcp, connections: 100, rate: 10/s}]
actions: [{action: %s, at: 1s, %s}]
scenarios: {a: {}}
`, kind, more)
}

// TestChoice checks which choices are refused before anything starts, and with which message.
func TestChoice(t *testing.T) {
	for _, tc := range []struct {
		name   string
		choice Choice
		text   string
		says   []string // words of the refusal; empty: none
		unfit  bool
	}{
		{"default", Choice{}, twoScenarios, nil, false},
		{"by name", Choice{Driver: "libvirt"}, twoScenarios, nil, false},
		{"unknown", Choice{Driver: "libvrit"}, twoScenarios, []string{`"libvirt"`}, false},
		{"nothing near", Choice{Driver: "docker-compose"}, twoScenarios,
			[]string{"libvirt", "netns", "vagrant"}, false},
		{"connect elsewhere", Choice{Driver: "netns", Connect: []string{"qemu:///system"}},
			twoScenarios, []string{"--connect qemu:///system", "netns"}, false},
		{"accelerator", Choice{Accelerator: "hvf"}, twoScenarios, []string{"kvm", "tcg"}, false},
		{"host changes elsewhere", Choice{AllowHostChanges: true}, twoScenarios,
			[]string{"--driver netns"}, false},
		{"host-wide", Choice{Driver: "netns"}, twoScenarios,
			[]string{"scenario max", "nf_conntrack_max", "--driver libvirt"}, true},
		{"host-wide, allowed", Choice{Driver: "netns", AllowHostChanges: true}, twoScenarios, nil,
			false},
		{"no host-wide setting", Choice{Driver: "netns"},
			strings.Replace(twoScenarios, "nf_conntrack_max", "nf_conntrack_tcp_loose", 1), nil,
			false},
		{"a power cut of the host", Choice{Driver: "netns", AllowHostChanges: true},
			actsOn("reset", ""), []string{"action reset of dut", "--driver libvirt"}, true},
		{"a mistake on the host", Choice{Driver: "netns", AllowHostChanges: true},
			strings.Replace(twoScenarios, "{memory", "{refused: [sysctl -w a = b], memory", 1),
			[]string{"scenario timeouts", "command lines", "--driver libvirt"}, true},
		{"a pause of a client", Choice{Driver: "netns"}, actsOn("pause", "node: client, for: 1s"),
			nil, false},
		{"a power cut of a box", Choice{Driver: "vagrant"}, actsOn("reset", ""),
			[]string{"action reset of dut", "--driver libvirt"}, true},
		{"a box unplugged", Choice{Driver: "vagrant"}, actsOn("link-down", ""),
			[]string{"action link-down of dut/client", "--driver libvirt"}, true},
		{"a client unplugged", Choice{Driver: "vagrant"},
			actsOn("link-down", "link: client/client"), nil, false},
		{"all of it elsewhere", Choice{Connect: []string{"qemu:///system"}}, actsOn("reset", ""),
			nil, false},
		{"a kernel", Choice{Driver: "netns", AllowHostChanges: true},
			strings.Replace(twoScenarios, "{memory", "{kernel: debian/trixie, memory", 1),
			[]string{"debian/trixie", "--driver libvirt"}, true},
		{"the host's kernel", Choice{Driver: "netns", AllowHostChanges: true},
			strings.Replace(twoScenarios, "{memory", "{kernel: host, memory", 1), nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.choice.Check(read(t, tc.text))
			if (err == nil) != (tc.says == nil) {
				t.Fatalf("it says %v", err)
			}
			for _, word := range tc.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if _, unfit := errors.AsType[*UnfitError](err); unfit != tc.unfit {
				t.Errorf("unfit: %v, want %v", unfit, tc.unfit)
			}
		})
	}
}

// TestAdapt: the report of a namespace shows the host's kernel, CPUs and memory, that of a machine
// its own.
func TestAdapt(t *testing.T) {
	for _, tc := range []struct {
		choice Choice
		kernel string
		own    bool // whether the memory is the requested one
	}{
		{Choice{}, scenarios.DefaultKernel, true},
		{Choice{Driver: "netns", AllowHostChanges: true}, kernels.HostName, false},
	} {
		experiment, list := read(t, twoScenarios)
		for range 2 { // outside of the sandbox and inside
			if err := tc.choice.Check(experiment, list); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range list {
			if s.DUT.Kernel != tc.kernel || (s.DUT.Memory == 256<<20) != tc.own {
				t.Errorf("%+v: kernel %s, memory %d", tc.choice, s.DUT.Kernel, s.DUT.Memory)
			}
		}
	}
}

// TestExtras_OfRefusedCommands gives a guest the tools that a scenario's refused command lines
// name.
func TestExtras_OfRefusedCommands(t *testing.T) {
	experiment, _, err := scenarios.Load("typos")
	if err != nil {
		t.Fatal(err)
	}
	if _, tools := extras(experiment.Resolve()); !slices.Contains(tools, "sysctl") {
		t.Errorf("the guest gets the tools %v", tools)
	}
}
