package orchestrator

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// house lists every package of ctload and what each imports of ctload: the map in docs/design.md. A
// package imports only packages that stand above it in the list, so that no arrow runs up.
var house = []struct {
	name    string
	imports []string
}{
	{"internal/spelling", nil}, // any package may import it and the next three
	{"internal/printable", nil},
	{"internal/kernels", nil},
	{"internal/actions", nil},
	{"internal/hosttest", nil}, // only tests import it and the next one
	{"internal/netnstest", []string{"internal/hosttest"}},
	{"internal/link", nil},
	{"internal/rules", nil},
	{"internal/textfile", nil},
	{"internal/occupancy", nil},

	{"generators/deadlines", nil},
	{"generators/latency", nil},
	{"generators/lifetimes", nil},
	{"generators/pacing", nil},
	{"generators/packets", nil},
	{"generators/threads", nil},
	{"generators/tuples", nil},
	{"generators/sockets", []string{"generators/packets", "generators/tuples"}},
	{"generators/responders", []string{"generators/deadlines", "generators/packets",
		"generators/sockets", "generators/threads", "generators/tuples"}},
	{"generators", []string{
		"generators/deadlines", "generators/latency", "generators/lifetimes", "generators/pacing",
		"generators/packets", "generators/sockets",
		"generators/threads", "generators/tuples",
	}},

	{"scenarios", []string{"internal/rules", "internal/textfile"}},
	{"results", []string{"internal/occupancy", "internal/rules"}},
	{"results/compare", []string{"results"}},
	{"results/metrics", []string{"results"}},
	{"results/alerts", []string{"results", "results/metrics"}},
	{"search", []string{"results"}},
	{"results/events", []string{"results", "search"}},
	{"capture", nil},
	{"capture/saved", []string{"capture"}},
	{"capture/explain", []string{"capture", "internal/occupancy", "results"}},
	{"capture/replay", []string{"capture", "capture/explain", "internal/rules", "scenarios"}},
	{"internal/labtest", []string{"internal/hosttest", "results"}},
	{"reports", []string{
		"capture/explain", "results", "results/alerts", "results/compare", "results/metrics",
		"search",
	}},
	{"reports/live", []string{"reports", "results", "results/events", "results/metrics"}},
	{"reports/progress", []string{"results", "results/events"}},

	{"agent/modload", nil},
	{"agent/ctnetlink", nil},
	{"capture/host", []string{"agent/ctnetlink", "capture", "capture/saved"}},
	{"agent/tuning", []string{"agent/ctnetlink", "internal/rules", "results"}},
	{"agent/samplers", []string{"agent/ctnetlink", "capture", "results"}},
	{"agent/faults", []string{
		"agent/ctnetlink", "agent/samplers", "agent/tuning", "generators/responders",
		"internal/link",
		"results",
	}},
	{"agent", []string{
		"agent/faults", "agent/modload", "agent/samplers", "agent/tuning", "generators",
		"generators/responders", "generators/sockets", "internal/link", "results",
	}},

	{"vm/journal", nil},
	{"vm/sandbox", nil},
	{"vm/guest", []string{"agent/modload"}},
	{"vm", []string{"agent", "agent/tuning", "internal/link"}},
	{"vm/control", []string{"agent", "vm"}},
	{"vm/preflight", []string{"agent/tuning", "vm/guest", "vm/sandbox"}},
	{"vm/netns", []string{"agent", "agent/tuning", "internal/link", "vm", "vm/journal",
		"vm/sandbox"}},
	{"vm/libvirt", []string{"agent", "agent/faults", "internal/link", "vm", "vm/guest"}},
	{"vm/libvirt/embedded", []string{"internal/link", "vm", "vm/guest", "vm/libvirt", "vm/netns"}},
	{"vm/libvirt/shared", []string{"agent", "generators", "internal/link", "vm", "vm/guest",
		"vm/journal", "vm/libvirt"}},
	{"vm/libvirt/libvirttest", []string{"internal/hosttest"}},
	{"vm/vagrant", []string{"agent", "internal/link", "vm", "vm/guest", "vm/libvirt",
		"vm/libvirt/embedded"}},

	{"orchestrator/wiring", []string{
		"agent", "agent/tuning", "generators", "generators/lifetimes", "generators/pacing",
		"generators/responders", "generators/tuples", "scenarios", "vm",
	}},
	{"orchestrator/forecast", []string{
		"agent/tuning", "generators", "generators/lifetimes", "generators/pacing",
		"internal/occupancy", "internal/rules", "orchestrator/wiring", "results", "scenarios",
	}},
	{"orchestrator/goals", []string{"orchestrator/forecast", "results", "scenarios", "search"}},
	{"labs", []string{
		"orchestrator/wiring", "scenarios", "vm", "vm/guest", "vm/journal", "vm/libvirt",
		"vm/libvirt/embedded",
		"vm/libvirt/shared", "vm/netns", "vm/sandbox", "vm/vagrant",
	}},
	{"orchestrator", []string{
		"agent", "agent/faults", "agent/samplers", "agent/tuning", "generators",
		"generators/latency", "internal/link",
		"labs", "orchestrator/forecast", "orchestrator/goals", "orchestrator/wiring", "results",
		"results/compare", "results/events", "scenarios", "search", "vm",
		"vm/guest", "vm/libvirt", "vm/preflight",
	}},
	{"cmd/ctload", []string{
		"agent", "agent/faults", "agent/modload", "agent/tuning", "capture",
		"capture/explain", "capture/host", "capture/replay",
		"capture/saved", "generators", "generators/pacing", "generators/responders",
		"generators/sockets", "generators/tuples", "internal/link", "internal/textfile", "labs",
		"orchestrator", "orchestrator/forecast", "orchestrator/goals", "orchestrator/wiring",
		"reports", "reports/live", "reports/progress", "results", "results/alerts",
		"results/compare", "results/events", "results/metrics", "scenarios", "search", "vm",
		"vm/control", "vm/guest",
		"vm/journal", "vm/libvirt", "vm/preflight", "vm/sandbox", "vm/vagrant",
	}},
	{"bench", []string{"agent/samplers", "capture", "capture/host", "generators",
		"generators/lifetimes", "generators/pacing", "generators/responders"}},
	{"bench/boot", []string{"agent", "vm", "vm/guest", "vm/libvirt", "vm/libvirt/embedded",
		"vm/sandbox"}},
	{"bench/boot/bare", nil},
}

// everywhere are the packages that any other may import.
var everywhere = []string{
	"internal/spelling", "internal/printable", "internal/kernels", "internal/actions",
}

const module = "github.com/ctload/ctload/"

// TestImports checks the place of each package: scenarios, generators and results know nothing of
// machines, renderers know results alone, and every package has a place.
func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var ours []string
		for _, path := range p.Imports {
			if name, ok := strings.CutPrefix(path, module); ok &&
				!slices.Contains(everywhere, name) {
				ours = append(ours, name)
			}
		}
		found[strings.TrimPrefix(p.ImportPath, module)] = ours
	}
	var placed []string
	for _, p := range house {
		imports, exists := found[p.name]
		if !exists {
			t.Errorf("the house lists %s, which is no package", p.name)
		}
		delete(found, p.name)
		for _, name := range imports {
			if !slices.Contains(p.imports, name) {
				t.Errorf("%s imports %s", p.name, name)
			}
		}
		for _, name := range p.imports {
			if !slices.Contains(imports, name) {
				t.Errorf("%s does not import %s, which the house says", p.name, name)
			}
			if !slices.Contains(placed, name) {
				t.Errorf("%s imports up: the house lists %s later", p.name, name)
			}
		}
		placed = append(placed, p.name)
	}
	for name := range found {
		t.Errorf("the house does not list %s", name)
	}
}
