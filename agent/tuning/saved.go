package tuning

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/rules"
)

// SavedRules holds the rules of all kinds at one time, in the form in which the tools load them
// again.
type SavedRules struct {
	iptables [4]string // of the -save tools, by kind
	// tables are the tables of nf_tables, as "inet filter"; those that iptables keeps there too.
	tables []string
	own    map[string]string // nft's own tables among them, as nft -s list prints each
}

// kinds are the kinds of iptables' rules. names is the file below /proc that names the tables of
// the legacy backend.
var kinds = [4]struct{ name, family, tool, names string }{
	{"ip", "ip", "iptables-nft", ""},
	{"ip6", "ip6", "ip6tables-nft", ""},
	{"legacy ip", "ip", "iptables-legacy", "net/ip_tables_names"},
	{"legacy ip6", "ip6", "ip6tables-legacy", "net/ip6_tables_names"},
}

// SaveRules lists the rules of this network namespace without counters. It lists those of iptables
// with iptables' own tools: no tool can load again what nft prints of them.
func (k Kernel) SaveRules(ctx context.Context) (SavedRules, error) {
	saved := SavedRules{own: map[string]string{}}
	listing, err := k.nftChains(ctx)
	if err != nil {
		return saved, err
	}
	for _, table := range rules.NFT(listing).Tables {
		saved.tables = append(saved.tables, table.ID())
	}
	covered := map[string]bool{}
	for i, kind := range kinds {
		of := func(table string) bool { return strings.HasPrefix(table, kind.family+" ") }
		legacy := kind.names != ""
		if legacy && !k.hasTables(kind.names) || !legacy && !slices.ContainsFunc(saved.tables, of) {
			continue
		}
		text, err := k.run(ctx, "", kind.tool+"-save")
		if err != nil {
			return saved, err
		}
		saved.iptables[i] = text
		if legacy {
			continue
		}
		saved.iptables[i] = rules.Existing(kind.family, text, listing)
		// iptables mentions a table of nft's own only in a comment.
		for _, table := range rules.Iptables(kind.family, text).Tables {
			covered[table.ID()] = true
		}
	}
	for _, table := range saved.tables {
		if covered[table] {
			continue
		}
		list := append([]string{"-s", "list", "table"}, strings.Fields(table)...)
		text, err := k.run(ctx, "", "nft", list...)
		if err != nil {
			return saved, err
		}
		saved.own[table] = terminated(text)
	}
	return saved, nil
}

// nftChains returns the tables of nf_tables with the names of their chains, as nft list chains
// prints them; empty when the kernel lacks nf_tables.
func (k Kernel) nftChains(ctx context.Context) (string, error) {
	loaded, err := k.modules()
	if err != nil || !k.hasNFT(loaded) {
		return "", err
	}
	return k.run(ctx, "", "nft", "list", "chains")
}

// RestoreRules makes the rules of this network namespace equal to saved: replaced tables return,
// added ones go, and unchanged ones keep their counters, while those of the others begin at zero. A
// new table of legacy iptables stays, empty, since only removing its module removes it. nft's part
// is one transaction, as is each of iptables' tables.
func (k Kernel) RestoreRules(ctx context.Context, saved SavedRules) error {
	now, err := k.SaveRules(ctx)
	if err != nil {
		return err
	}
	if script := restoreScript(saved, now); script != "" {
		if _, err := k.run(ctx, script, "nft", "-f", "-"); err != nil {
			return err
		}
	}
	for i, kind := range kinds {
		text := rules.Changed(saved.iptables[i], now.iptables[i])
		if kind.names != "" {
			text += k.emptyNewTables(kind.names, saved.iptables[i])
		}
		if text == "" {
			continue
		}
		if _, err := k.run(ctx, terminated(text), kind.tool+"-restore"); err != nil {
			return err
		}
	}
	return nil
}

// restoreScript returns the input with which nft makes its tables equal to saved. It makes missing
// tables of iptables, empty, for the order of the listing; iptables itself fills them.
func restoreScript(saved, now SavedRules) string {
	var script strings.Builder
	for _, table := range now.tables {
		was, own := saved.own[table]
		if !slices.Contains(saved.tables, table) || own && was != now.own[table] {
			fmt.Fprintf(&script, "delete table %s\n", table)
		}
	}
	for _, table := range saved.tables {
		was, own := saved.own[table]
		switch {
		case own && was != now.own[table]:
			script.WriteString(was)
		case !own && !slices.Contains(now.tables, table):
			fmt.Fprintf(&script, "add table %s\n", table)
		}
	}
	return script.String()
}

// emptyNewTables returns the input that empties the legacy tables that exist and were not saved.
func (k Kernel) emptyNewTables(names, saved string) string {
	before := rules.Iptables("", saved)
	tables, _ := k.legacyTables(names)
	known := func(table string) bool { return before.Table("", table) != nil }
	return emptied(slices.DeleteFunc(tables, known), true)
}

// Text returns the saved rules for a reader, without dates and counters.
func (s SavedRules) Text() string {
	var b strings.Builder
	for _, text := range s.iptables {
		b.WriteString(rules.Bare(text))
	}
	for _, table := range s.tables {
		b.WriteString(rules.Bare(s.own[table]))
	}
	return b.String()
}

// Differences returns the ways in which these rules differ from those of the settings, like the
// function of that name.
func (s SavedRules) Differences(asked Settings) []string {
	loaded := s.iptables[:2]
	if asked.backend() == BackendLegacy {
		loaded = s.iptables[2:]
	}
	var tables strings.Builder
	for _, table := range s.tables {
		fmt.Fprintf(&tables, "table %s\n", table)
	}
	only := Settings{Rules: asked.Rules, Rules6: asked.Rules6, NFT: asked.NFT}
	return Differences(only, State{Rules: loaded[0], Rules6: loaded[1], NFT: tables.String()})
}

// Rules returns the rules of all kinds, a line each, in no significant order: those of legacy
// iptables and of iptables over nf_tables as "table -A CHAIN ...", with policies other than ACCEPT,
// then nft's own listing line by line. Empty tables and chains of iptables leave no line.
func (s SavedRules) Rules() []string {
	var lines []string
	for i, kind := range kinds {
		for _, table := range rules.Iptables("", rules.Bare(s.iptables[i])).Tables {
			for _, line := range table.Lines {
				chain := table.Chain(line.Declares())
				if chain == nil || chain.Policy != "ACCEPT" && chain.Policy != "-" {
					lines = append(lines, kind.name+" "+table.Name+" "+line.Text)
				}
			}
		}
	}
	slices.Sort(lines)
	for _, table := range s.tables {
		for line := range strings.Lines(rules.Bare(s.own[table])) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
