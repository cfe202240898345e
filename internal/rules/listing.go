package rules

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

var (
	savedCounter = regexp.MustCompile(`\[(\d+):(\d+)\]`)
	nftCounter   = regexp.MustCompile(`packets \d+ bytes \d+`)
	nftExpiry    = regexp.MustCompile(` expires [0-9a-z]+`)
)

// Bare returns a listing of iptables-save or of nft without what changes by itself: counters,
// dates, the remaining life of the elements of sets.
func Bare(listing string) string {
	var b strings.Builder
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		line = strings.TrimPrefix(savedCounter.ReplaceAllString(line, "[0:0]"), "[0:0] ")
		line = nftCounter.ReplaceAllString(line, "packets 0 bytes 0")
		b.WriteString(nftExpiry.ReplaceAllString(line, ""))
	}
	return b.String()
}

// ByName returns a listing of nft with its tables in the order of their names: that of the kernel
// is the one in which they were made, and tells nothing.
func ByName(listing string) string {
	tables := NFT(listing).Tables
	slices.SortFunc(tables, func(a, b *Table) int { return cmp.Compare(a.ID(), b.ID()) })
	return joined(tables)
}

func joined(tables []*Table) string {
	var b strings.Builder
	for _, t := range tables {
		b.WriteString(t.String())
	}
	return b.String()
}

// Changed returns the tables of one text of iptables-save that are not the same in another one,
// counters and dates aside, as a text for iptables-restore.
func Changed(text, other string) string {
	have := Iptables("", Bare(other))
	return joined(slices.DeleteFunc(Iptables("", Bare(text)).Tables, func(t *Table) bool {
		same := have.Table("", t.Name)
		return same != nil && same.String() == t.String()
	}))
}

// Existing returns a text of iptables-save without the chains that nft, which lists what there is,
// does not list: iptables names all chains that it knows, and makes one when a rule needs it.
func Existing(family, saved, listing string) string {
	listed, text := NFT(listing), Iptables(family, saved)
	for _, t := range text.Tables {
		there := listed.Table(family, t.Name)
		t.Lines = slices.DeleteFunc(t.Lines, func(l *Line) bool {
			return l.declares != "" && there.Chain(l.declares) == nil
		})
	}
	return joined(text.Tables)
}

// Emptied returns what makes iptables-restore empty a table; with accepting, the chains that the
// kernel makes also accept again what reaches their ends.
func Emptied(table string, accepting bool) string {
	text := "*" + table + "\n"
	if accepting {
		for _, chain := range builtinChains[table] {
			text += ":" + chain + " ACCEPT [0:0]\n"
		}
	}
	return text + "COMMIT\n"
}
