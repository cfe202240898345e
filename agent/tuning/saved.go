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
	Legacy, Legacy6 string // of iptables-legacy-save and ip6tables-legacy-save
	NFT4, NFT6      string // of iptables-nft-save and ip6tables-nft-save
	// Tables are the tables of nf_tables, as "inet filter"; those that iptables keeps there too.
	Tables []string
	Own    []OwnTable // nft's own tables, in the same order
}

// OwnTable is a table of nft's own, as nft -s list prints it.
type OwnTable struct {
	Name string // as in SavedRules.Tables
	Text string
}

// SaveRules lists the rules of this network namespace without counters. It lists those of iptables
// with iptables' own tools: no tool can load again what nft prints of them.
func (k Kernel) SaveRules(ctx context.Context) (SavedRules, error) {
	var saved SavedRules
	for i, into := range []*string{&saved.Legacy, &saved.Legacy6} {
		if !k.hasTables(families[i].names) {
			continue
		}
		var err error
		if *into, err = k.run(ctx, "", families[i].tool+"-legacy-save"); err != nil {
			return saved, err
		}
	}
	listing, err := k.nftChains(ctx)
	for _, table := range rules.NFT(listing).Tables {
		saved.Tables = append(saved.Tables, table.ID())
	}
	if err != nil || len(saved.Tables) == 0 {
		return saved, err
	}
	covered := map[string]bool{}
	for _, family := range []struct {
		name, tool string
		into       *string
	}{
		{"ip", "iptables-nft-save", &saved.NFT4},
		{"ip6", "ip6tables-nft-save", &saved.NFT6},
	} {
		of := func(table string) bool { return strings.HasPrefix(table, family.name+" ") }
		if !slices.ContainsFunc(saved.Tables, of) {
			continue
		}
		text, err := k.run(ctx, "", family.tool)
		if err != nil {
			return saved, err
		}
		*family.into = rules.Existing(family.name, text, listing)
		// iptables mentions a table of nft's own only in a comment.
		for _, table := range rules.Iptables(family.name, text).Tables {
			covered[table.ID()] = true
		}
	}
	for _, table := range saved.Tables {
		if covered[table] {
			continue
		}
		list := append([]string{"-s", "list", "table"}, strings.Fields(table)...)
		text, err := k.run(ctx, "", "nft", list...)
		if err != nil {
			return saved, err
		}
		saved.Own = append(saved.Own, OwnTable{Name: table, Text: terminated(text)})
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
	for _, family := range []struct{ text, now, names, tool string }{
		{saved.NFT4, now.NFT4, "", "iptables-nft-restore"},
		{saved.NFT6, now.NFT6, "", "ip6tables-nft-restore"},
		{saved.Legacy, now.Legacy, "net/ip_tables_names", "iptables-legacy-restore"},
		{saved.Legacy6, now.Legacy6, "net/ip6_tables_names", "ip6tables-legacy-restore"},
	} {
		text := rules.Changed(family.text, family.now)
		if family.names != "" {
			text += k.emptyNewTables(family.names, family.text)
		}
		if text == "" {
			continue
		}
		if _, err := k.run(ctx, terminated(text), family.tool); err != nil {
			return err
		}
	}
	return nil
}

// restoreScript returns the input with which nft makes its tables equal to saved. It makes missing
// tables of iptables, empty, for the order of the listing; iptables itself fills them.
func restoreScript(saved, now SavedRules) string {
	var script strings.Builder
	for _, table := range now.Tables {
		was, own := saved.own(table)
		is, _ := now.own(table)
		if !slices.Contains(saved.Tables, table) || own && was != is {
			fmt.Fprintf(&script, "delete table %s\n", table)
		}
	}
	for _, table := range saved.Tables {
		was, own := saved.own(table)
		is, _ := now.own(table)
		switch {
		case own && was != is:
			script.WriteString(was)
		case !own && !slices.Contains(now.Tables, table):
			fmt.Fprintf(&script, "add table %s\n", table)
		}
	}
	return script.String()
}

// own returns the text of a table, if it is nft's own.
func (s SavedRules) own(table string) (text string, own bool) {
	for _, t := range s.Own {
		if t.Name == table {
			return t.Text, true
		}
	}
	return "", false
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
	for _, part := range []string{s.Legacy, s.Legacy6, s.NFT4, s.NFT6} {
		b.WriteString(rules.Bare(part))
	}
	for _, table := range s.Own {
		b.WriteString(rules.Bare(table.Text))
	}
	return b.String()
}

// Differences returns the ways in which these rules differ from those of the settings, like the
// function of that name.
func (s SavedRules) Differences(asked Settings) []string {
	four, six := s.NFT4, s.NFT6
	if asked.backend() == BackendLegacy {
		four, six = s.Legacy, s.Legacy6
	}
	var tables strings.Builder
	for _, table := range s.Tables {
		fmt.Fprintf(&tables, "table %s\n", table)
	}
	only := Settings{Rules: asked.Rules, Rules6: asked.Rules6, NFT: asked.NFT}
	return Differences(only, State{Rules: four, Rules6: six, NFT: tables.String()})
}

// Rules returns the rules of all kinds, a line each, in no significant order: those of legacy
// iptables and of iptables over nf_tables as "table -A CHAIN ...", with policies other than ACCEPT,
// then nft's own listing line by line. Empty tables and chains of iptables leave no line.
func (s SavedRules) Rules() []string {
	var lines []string
	for _, family := range []struct{ name, text string }{
		{"legacy ip", s.Legacy}, {"legacy ip6", s.Legacy6}, {"ip", s.NFT4}, {"ip6", s.NFT6},
	} {
		for _, table := range rules.Iptables("", rules.Bare(family.text)).Tables {
			for _, line := range table.Lines {
				chain := table.Chain(line.Declares())
				if chain == nil || chain.Policy != "ACCEPT" && chain.Policy != "-" {
					lines = append(lines, family.name+" "+table.Name+" "+line.Text)
				}
			}
		}
	}
	slices.Sort(lines)
	for _, table := range s.Own {
		for line := range strings.Lines(rules.Bare(table.Text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
