package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// Step is a block of shell commands.
type Step struct {
	Title string `json:"title"`          // what it sets, in a word
	Note  string `json:"note,omitempty"` // what to know before it is run
	Text  string `json:"text"`           // the commands
}

// sysctlLines returns the configuration as lines for a file in /etc/sysctl.d.
func (c Configuration) sysctlLines() []string {
	return settingLines(c.Sysctl, c.Buckets)
}

func settingLines(sysctl map[string]string, buckets int) (lines []string) {
	if buckets > 0 {
		lines = append(lines, fmt.Sprintf("%s = %d", kernels.KeyBuckets, buckets))
	}
	for _, name := range slices.Sorted(maps.Keys(sysctl)) {
		lines = append(lines, fmt.Sprintf("%s = %s", name, sysctl[name]))
	}
	return lines
}

// stepsBetween returns how to change a machine from one configuration to another.
func stepsBetween(first, c Configuration) (steps []Step) {
	before := first.sysctlLines()
	steps = settingsStep(slices.DeleteFunc(c.sysctlLines(), func(line string) bool {
		return slices.Contains(before, line)
	}))
	for _, family := range []struct{ title, before, after, tool string }{
		{"Rules", first.Rules, c.Rules, "iptables-restore"},
		{"Rules of IPv6", first.Rules6, c.Rules6, "ip6tables-restore"},
	} {
		if text := changedTables(family.before, family.after); text != "" {
			note := "Replaces whole tables: add your own rules to the text first. "
			steps = append(steps, Step{family.title, note + keepIptables,
				heredoc("sudo "+family.tool, text)})
		}
	}
	for _, script := range []struct{ title, note, before, after, tool string }{
		{"Sets", "The rules name them.", first.IPSet, c.IPSet, "ipset restore"},
		{"Rules of nftables", "Adds to the ruleset; what the script flushes goes. " +
			keepNFT, first.NFT, c.NFT, "nft -f -"},
		{"Services of IPVS", "ipvsadm-save and a unit keep them across reboots.",
			first.IPVS, c.IPVS, "ipvsadm -R"},
	} {
		text := strings.TrimSpace(script.after)
		if text == "" || text == strings.TrimSpace(script.before) {
			continue
		}
		step := Step{script.title, script.note, heredoc("sudo "+script.tool, text)}
		if script.tool == "ipset restore" { // before the rules that need them
			steps = append([]Step{step}, steps...)
		} else {
			steps = append(steps, step)
		}
	}
	return steps
}

// How rules outlive a reboot.
const (
	keepIptables = "To keep them across reboots: sudo netfilter-persistent save (Debian's " +
		"iptables-persistent)."
	keepNFT = "To keep it across reboots: put it into /etc/nftables.conf and enable " +
		"nftables.service."
)

// settingsStep sets sysctls now and at each boot. systemd loads modules-load.d before it applies
// sysctl.d; without it no rule has loaded the module by then, and its sysctls do not exist.
func settingsStep(lines []string) []Step {
	if len(lines) == 0 {
		return nil
	}
	return []Step{{
		"Settings",
		"modules-load.d loads the module at boot, before sysctl.d sets these.",
		strings.Join([]string{
			"sudo modprobe nf_conntrack",
			"echo nf_conntrack | sudo tee /etc/modules-load.d/nf_conntrack.conf",
			heredoc("sudo tee /etc/sysctl.d/90-conntrack.conf", strings.Join(lines, "\n")),
			"sudo sysctl -p /etc/sysctl.d/90-conntrack.conf",
		}, "\n"),
	}}
}

// stepsOf returns the commands of the fixes among a scenario's actions; none for what takes the
// rules or the module away, which is no state to keep.
func stepsOf(all Asked) (steps []Step) {
	sysctl, buckets := map[string]string{}, 0
	for _, a := range all {
		if a.word("fix") != "true" {
			continue
		}
		switch actions.Kind(a.word("action")) {
		case actions.Sysctl:
			if set, ok := a["sysctl"].(map[string]any); ok {
				for name, value := range set {
					sysctl[name] = wordOf(value)
				}
			}
		case actions.Buckets:
			buckets = a.number("buckets")
		case actions.RulesLoad:
			steps = append(steps, loading(a)...)
		case actions.Flush:
			steps = append(steps, Step{"Entries", "Removes all of them.", "sudo conntrack -F"})
		case actions.Delete:
			steps = append(steps, deletion(a)...)
		}
	}
	return append(settingsStep(settingLines(sysctl, buckets)), steps...)
}

// loading returns the commands that load the rules of an action.
func loading(a Settings) (steps []Step) {
	how, note := "", "Replaces whole tables: add your own rules to the text first. "
	if a.word("add") == "true" {
		how, note = " --noflush", "Adds to these tables. "
	}
	for _, family := range []struct{ title, key, command, note string }{
		{"Rules", "rules", "iptables-restore" + how, note + keepIptables},
		{"Rules of IPv6", "rules6", "ip6tables-restore" + how, note + keepIptables},
		{"Rules of nftables", "nft", "nft -f -", keepNFT},
	} {
		if text := strings.TrimSpace(a.word(family.key)); text != "" {
			steps = append(steps, Step{family.title, family.note,
				heredoc("sudo "+family.command, text)})
		}
	}
	return steps
}

// deletion returns none where conntrack(8) has no option for what was chosen.
func deletion(a Settings) []Step {
	if a.word("unassured") == "true" {
		return nil
	}
	command := "sudo conntrack -D"
	if a.word("state") != "" && a.word("protocol") == "" {
		command += " -p tcp" // --state is an option of TCP
	}
	for _, option := range []struct{ name, key string }{
		{"-p", "protocol"}, {"--state", "state"}, {"-s", "source"}, {"-d", "destination"},
		{"--dport", "port"}, {"--sport", "source-port"},
	} {
		if word := a.word(option.key); word != "" {
			command += " " + option.name + " " + quoted(word)
		}
	}
	return []Step{{"Entries", "Removes those that it names.", command}}
}

// quoted returns a word for a shell.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("._:/-", r)
	}
	if strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// heredoc gives a command a text as its input.
func heredoc(command, text string) string {
	end := "EOF"
	for slices.Contains(strings.Split(text, "\n"), end) {
		end += "_"
	}
	return command + " <<'" + end + "'\n" + text + "\n" + end
}

// changedTables returns the changed tables for iptables-restore; it empties a table that is gone.
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
func inFull(c Configuration) string {
	var parts []string
	for _, p := range []struct{ title, text string }{
		{"# sysctl", strings.Join(c.sysctlLines(), "\n")},
		{"# ipset restore", strings.TrimSpace(c.IPSet)},
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
