package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ctload/ctload/capture/saved"
)

// rulesLimit bounds one listing of rules.
const rulesLimit = 10 * time.Second

// rules lists the rules of the tables that are loaded: the tools would load others. It returns the
// numbers of entries of the sets of ipset.
func (t *taker) rules() map[string]int64 {
	if t.WithoutRoot {
		return nil
	}
	for _, family := range []struct{ names, tool string }{
		{"net/ip_tables_names", "iptables-legacy-save"},
		{"net/ip6_tables_names", "ip6tables-legacy-save"},
	} {
		names, err := os.ReadFile(filepath.Join(t.Proc, family.names))
		t.problem(family.names, err)
		for name := range strings.FieldsSeq(string(names)) {
			text, err := t.legacy(family.tool, name)
			t.problem(family.tool+" -t "+name, err)
			prompt := "$ " + strings.Replace(family.tool, "-legacy", "", 1) + "\n"
			t.file(family.tool, prompt+text)
		}
	}
	sets := t.sets()
	if !t.hasTables() {
		return sets
	}
	text, err := run("nft", "list", "ruleset")
	t.problem("nft list ruleset", err)
	t.file("nft", text)
	// nft shows what iptables has loaded in a form that it does not read again.
	for family, tool := range map[string]string{
		"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save",
	} {
		if !ofIptables(text, family) {
			continue
		}
		saved, err := run(tool, "-c")
		t.problem(tool, err)
		t.file(tool, "$ "+strings.Replace(tool, "-nft", "", 1)+"\n"+saved)
	}
	return sets
}

// sets returns how many entries each set of ipset has, where its module is loaded.
func (t *taker) sets() map[string]int64 {
	if _, err := os.Stat(filepath.Join(t.Sys, "module/ip_set")); err != nil {
		return nil
	}
	text, err := run("ipset", "list", "-terse")
	t.problem("ipset list -terse", err)
	return saved.Sets(text)
}

// ofIptables reports whether a listing of nft has tables with the names that iptables gives its
// own: the save tool lists those alone, and makes none.
func ofIptables(listing, family string) bool {
	for _, name := range []string{"filter", "nat", "mangle", "raw", "security"} {
		if strings.Contains("\n"+listing, "\ntable "+family+" "+name+" {") {
			return true
		}
	}
	return false
}

// legacy lists a loaded table. Without the tool of the legacy back end the plain one is it, where
// it says so.
func (t *taker) legacy(tool, table string) (string, error) {
	if _, err := exec.LookPath(tool); err != nil {
		plain := strings.Replace(tool, "-legacy", "", 1)
		said, err := run(plain, "--version")
		if err != nil {
			return "", err
		}
		if strings.Contains(said, "nf_tables") {
			return "", errors.New("no tool here lists a table of the legacy back end")
		}
		tool = plain
	}
	return run(tool, "-c", "-t", table)
}

// hasTables reports whether nf_tables is loaded: nft would load it.
func (t *taker) hasTables() bool {
	if _, err := os.Stat(filepath.Join(t.Sys, "module/nf_tables")); err == nil {
		return true
	}
	_, err := os.Stat(filepath.Join(t.Proc, "modules"))
	return err != nil // a kernel without modules
}

// run runs a tool that lists rules.
func run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), rulesLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}
