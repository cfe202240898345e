package scenarios

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wholeFiles are files as their projects ship or print them, and what Import makes of each.
var wholeFiles = []struct {
	files    string
	topology Topology
	cards    Cards
	owners   Addresses
	target   string
	port     Port
	warnings string // of which each line has one, as ctload scenarios validate tells them
}{
	{files: "fw4.nft", topology: Topology{Kind: Router, Servers: 1},
		cards: Cards{{"wan", nodeServer}, {"br-lan", nodeClient}}, target: nodeServer, port: 80},
	{files: "kube-nft.nft", topology: Topology{Kind: Router, Servers: 2},
		owners: Addresses{{"10.244.1.5", "server"}, {"10.244.2.7", "server2"},
			{"10.96.120.7", "dut"}}, target: nodeDUT, port: 80},
	{files: "kube.v4", topology: Topology{Kind: Router, Servers: 2},
		owners: Addresses{{"10.244.1.5", "server"}, {"10.244.2.7", "server2"},
			{"10.96.120.7", "dut"}}, target: nodeDUT, port: 80},
	{files: "docker.v4", topology: Topology{Kind: Router, Servers: 1},
		cards: Cards{{"docker0", nodeServer}}, owners: Addresses{{"172.17.0.2", "server"}},
		target: nodeDUT, port: 8080},
	{files: "istio.v4", topology: Topology{Kind: Server}, target: nodeDUT, port: 80},
	{files: "csf.v4 csf.ipset", topology: Topology{Kind: Server}, target: nodeDUT, port: 80},
	{files: "before.rules user.rules", topology: Topology{Kind: Server}, target: nodeDUT, port: 80},
	{files: "vyos.conf", topology: Topology{Kind: Server}, target: nodeDUT, port: 80,
		warnings: "no rule needs connection tracking\n" +
			"net.netfilter.nf_conntrack_helper is gone since Linux 6.0\n" +
			"max is raised but not the hash"},
}

// TestImport_OfWholeFiles makes experiments of them that need no change.
func TestImport_OfWholeFiles(t *testing.T) {
	for _, want := range wholeFiles {
		var paths []string
		for name := range strings.FieldsSeq(want.files) {
			paths = append(paths, filepath.Join("testdata/imports", name))
		}
		made, err := Import(paths)
		if err != nil {
			t.Errorf("%s: %v", want.files, err)
			continue
		}
		e, warnings, err := Parse("x.yaml", made.Text)
		if err != nil {
			t.Errorf("%s: %v\n%s", want.files, err, made.Text)
			continue
		}
		roundTrip(t, e)
		r := e.Resolve()[0]
		load := r.Workload[0]
		if e.Topology.Kind != want.topology.Kind || e.Topology.Servers != want.topology.Servers ||
			!slices.Equal(r.DUT.Cards, want.cards) ||
			!slices.Equal(r.DUT.Addresses, want.owners) || load.Target != want.target ||
			load.Ports[0].First != want.port {
			t.Errorf("%s: %+v, interfaces %v, addresses %v, load to %s, ports %v", want.files,
				e.Topology, r.DUT.Cards, r.DUT.Addresses, load.Target, load.Ports)
		}
		var told []string
		for _, w := range warnings {
			told = append(told, w.String())
		}
		lines := strings.Split(want.warnings, "\n")
		if want.warnings == "" {
			lines = nil
		}
		if len(told) != len(lines) {
			t.Errorf("%s: warnings %q", want.files, told)
			continue
		}
		for i, line := range lines {
			if !strings.Contains(told[i], line) {
				t.Errorf("%s: warning %q, want %q", want.files, told[i], line)
			}
		}
	}
}
