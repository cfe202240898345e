package reports

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/results"
)

// applied is how to apply the recommended scenario to a machine.
type applied struct {
	Name, Why string
	Steps     []step
	// Full is all that the scenario set, changed or not.
	Full string
}

// step is a block of shell commands.
type step struct {
	Title, Note, Text string
}

// applyOf returns the commands that change a machine from the first scenario to the recommended
// one; nil without a recommendation.
func applyOf(run *results.Run) *applied {
	best := results.Best(run)
	if best == nil || len(run.Scenarios) < 2 || run.Interrupted {
		return nil
	}
	first, c := run.Scenarios[0].Configuration, best.Configuration
	a := &applied{Name: best.Name, Why: results.Recommend(run), Full: inFull(c)}
	if best.Name == run.Scenarios[0].Name {
		return a // unchanged
	}
	if lines := changedSettings(first, c); len(lines) > 0 {
		a.Steps = append(a.Steps, step{
			Title: "Settings",
			Note:  "At boot, sysctl comes before the first rule loads the module and would set nothing: hence modules-load.d.",
			Text: strings.Join([]string{
				"sudo modprobe nf_conntrack",
				"echo nf_conntrack | sudo tee /etc/modules-load.d/nf_conntrack.conf",
				heredoc("sudo tee /etc/sysctl.d/90-conntrack.conf", strings.Join(lines, "\n")),
				"sudo sysctl -p /etc/sysctl.d/90-conntrack.conf",
			}, "\n"),
		})
	}
	for _, family := range []struct{ title, before, after, tool string }{
		{"Rules", first.Rules, c.Rules, "iptables-restore"},
		{"Rules of IPv6", first.Rules6, c.Rules6, "ip6tables-restore"},
	} {
		if text := changedTables(family.before, family.after); text != "" {
			a.Steps = append(a.Steps, step{
				Title: family.title,
				Note:  "Replaces the tables named in it as a whole: put your own rules in first.",
				Text:  heredoc("sudo "+family.tool, text),
			})
		}
	}
	if nft := strings.TrimSpace(c.NFT); nft != "" && nft != strings.TrimSpace(first.NFT) {
		a.Steps = append(a.Steps, step{
			Title: "Rules of nftables",
			Note:  "Adds to the ruleset, but for what the script itself flushes.",
			Text:  heredoc("sudo nft -f -", nft),
		})
	}
	return a
}

// heredoc gives a command a text as its input.
func heredoc(command, text string) string {
	end := "EOF"
	for slices.Contains(strings.Split(text, "\n"), end) {
		end += "_"
	}
	return command + " <<'" + end + "'\n" + text + "\n" + end
}

// changedSettings returns the lines for sysctl.d that differ from the first scenario's.
func changedSettings(first, c results.Configuration) []string {
	before := first.SettingLines()
	return slices.DeleteFunc(c.SettingLines(), func(line string) bool { return slices.Contains(before, line) })
}

// changedTables returns the tables that differ as a text for iptables-restore. It empties a table
// that is gone.
func changedTables(before, after string) string {
	text := rules.Changed(after, before)
	kept := rules.Iptables("", after)
	for _, t := range rules.Iptables("", before).Tables {
		if kept.Table("", t.Name) == nil {
			text += rules.Emptied(t.Name, false)
		}
	}
	return strings.TrimSpace(text)
}

// inFull returns everything that a configuration sets.
func inFull(c results.Configuration) string {
	var parts []string
	for _, p := range []struct{ title, text string }{
		{"# sysctl", strings.Join(c.SettingLines(), "\n")},
		{"# iptables-restore", strings.TrimSpace(c.Rules)},
		{"# ip6tables-restore", strings.TrimSpace(c.Rules6)},
		{"# nft -f", strings.TrimSpace(c.NFT)},
		{"# ipvsadm -R", strings.TrimSpace(c.IPVS)},
	} {
		if p.text != "" {
			parts = append(parts, p.title+"\n"+p.text)
		}
	}
	return strings.Join(parts, "\n\n")
}
