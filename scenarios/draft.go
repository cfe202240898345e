package scenarios

import (
	"strings"

	"github.com/ctload/ctload/internal/rules"
)

// Draft is an experiment that a program makes: [Parse] reads its text.
type Draft struct {
	Head
	DUT      Configuration
	Workload []Entry
	// Scenarios have a name, a summary and their whole DUT; their workload is the draft's.
	Scenarios  []Resolved
	Thresholds []Threshold
	// Notes are sentences for comments at the top.
	Notes []string
}

// Text returns the draft as a file.
func (d Draft) Text() ([]byte, error) {
	e := &Experiment{
		Head: d.Head, DUT: d.DUT, Workload: d.Workload, Thresholds: d.Thresholds,
	}
	for _, r := range d.Scenarios {
		r.Workload = d.Workload
		e.resolved = append(e.resolved, r)
	}
	text, err := e.MarshalYAML()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, n := range d.Notes {
		b.WriteString("# " + strings.ReplaceAll(n, "\n", " ") + "\n")
	}
	b.Write(text)
	return []byte(b.String()), nil
}

// Wanted lists the parts of a lab that rules need.
type Wanted struct {
	Topology TopologyKind
	Cards    Cards    // the interfaces that rules name
	Setup    []string // commands that make what rules name
	Sets     []string // the names of sets that rules of iptables match
	// Notes tell which names are mapped, and which are none of the DUT.
	Notes []string
}

// WantedBy returns the parts of a lab that rules need.
func WantedBy(texts rules.Texts) Wanted {
	var i importer
	f := firewall{Ruleset: rules.Read(texts)}
	w := Wanted{}
	w.Topology, w.Cards = i.wiring(f)
	w.Setup = i.accounts(f)
	seen := map[string]bool{}
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, n := range r.Names {
					if n.Kind == rules.Set && t.Iptables() && !seen[n.Text] {
						seen[n.Text] = true
						w.Sets = append(w.Sets, n.Text)
					}
				}
			}
		}
	}
	w.Notes = i.notes
	return w
}
