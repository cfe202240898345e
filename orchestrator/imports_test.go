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

// mayImport is which packages of ctload each package may import: the map in docs/design.md. A name
// that ends in /... stands for all below it too.
var mayImport = map[string][]string{
	"scenarios":        {},
	"results":          {},
	"results/compare":  {"results"},
	"generators":       {"generators/..."},
	"reports":          {"results/..."},
	"reports/progress": {"results"},
	"agent/tuning":     {},
	"agent/samplers":   {"results"},
	"agent/faults":     {"agent/samplers", "agent/tuning", "vm/link"},
	"agent":            {"agent/...", "generators", "results", "vm/guest/modload"},
	"vm":               {"agent", "agent/tuning", "vm/link"},
	"vm/guest":         {"vm/guest/..."},
	"vm/guest/modload": {},
	"vm/link":          {},
	"vm/journal":       {},
	"vm/control":       {"agent", "vm"},
	"vm/netns":         {"agent", "agent/tuning", "vm", "vm/journal", "vm/link", "vm/sandbox"},
	"vm/sandbox":       {},
	"vm/libvirt":       {"agent", "agent/faults", "generators", "vm", "vm/guest", "vm/journal", "vm/link"},
	"vm/vagrant":       {"agent", "vm", "vm/guest", "vm/libvirt", "vm/link"},

	"internal/hosttest":  {}, // which tests alone import, as the next
	"internal/netnstest": {"internal/hosttest"},
	"internal/spelling":  {},
	"internal/kernels":   {},
}

// everywhere are the packages that any other may import.
var everywhere = []string{"internal/spelling", "internal/kernels"}

const module = "github.com/ctload/ctload/"

// TestImports holds the packages to their places: scenarios, generators and results know nothing of
// machines, renderers know results alone.
func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
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
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		allowed, limited := mayImport[name]
		if !limited {
			if rest, below := strings.CutPrefix(name, "generators/"); below && rest != "" {
				allowed, limited = []string{"generators/..."}, true
			}
		}
		if !limited {
			continue
		}
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if ours && !slices.Contains(everywhere, other) && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, other) }) {
				t.Errorf("%s imports %s", name, other)
			}
		}
	}
	for name := range mayImport {
		if !seen[name] {
			t.Errorf("there is no package %s", name)
		}
	}
}

func matches(pattern, name string) bool {
	if prefix, below := strings.CutSuffix(pattern, "/..."); below {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	}
	return pattern == name
}
