package saved

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/capture"
)

// prompts matches a line with a prompt and the command that a user typed.
var prompts = regexp.MustCompile(`^[^#$%>=]{0,80}[#$%]\s+(\S.*)$`)

// programs are the commands whose output this package reads, or which it must tell from output.
var programs = []string{
	"cat", "conntrack", "sysctl", "dmesg", "journalctl", "grep", "egrep", "head", "tail", "awk",
	"sudo", "ss", "netstat", "nstat", "iptables-save", "ip6tables-save", "nft", "uname", "wc",
	"ip", "sleep", "lsmod", "zcat", "less", "more", "ls", "echo", "watch", "date", "uptime", "free",
	"sed", "sort", "cut", "iptables", "ip6tables", "for", "while", "sar", "top", "ps",
}

// command is a command line whose output follows.
type command struct {
	text  string
	pipes [][]string // the words of each command of a pipe, without sudo and redirections
}

// commandOf returns the command of a line with a prompt, or of a comment that names one.
func commandOf(s string) (command, bool) {
	m := prompts.FindStringSubmatch(s)
	if m == nil {
		return command{}, false
	}
	c := parseCommand(m[1])
	if len(c.pipes) == 0 || !slices.Contains(programs, c.program(0)) {
		return command{}, false
	}
	return c, true
}

// emptyPrompt reports whether a line is a prompt without a command.
var emptyPrompt = regexp.MustCompile(`^[^#$%>=]{0,80}[#$%]\s*$`)

func parseCommand(text string) command {
	c := command{text: text}
	for part := range strings.SplitSeq(text, "|") {
		var words []string
		for _, w := range strings.Fields(part) {
			switch {
			case len(words) == 0 && (w == "sudo" || strings.HasPrefix(w, "LANG=") ||
				strings.HasPrefix(w, "LC_ALL=")):
			case strings.HasPrefix(w, "2>"), strings.HasPrefix(w, ">"), strings.HasPrefix(w, "&>"):
			default:
				words = append(words, strings.Trim(w, `"'`))
			}
		}
		if len(words) > 0 {
			c.pipes = append(c.pipes, words)
		}
	}
	return c
}

// program returns the name of a command of the pipe.
func (c command) program(i int) string {
	if i >= len(c.pipes) {
		return ""
	}
	return path.Base(strings.TrimSuffix(c.pipes[i][0], ";"))
}

// has reports whether the pipe has a program.
func (c command) has(names ...string) bool {
	for i := range c.pipes {
		if slices.Contains(names, c.program(i)) {
			return true
		}
	}
	return false
}

// names reports whether a word of the command contains text.
func (c command) names(text string) bool { return strings.Contains(c.text, text) }

// listsTable reports whether the first command lists the table of connections.
func (c command) listsTable() bool {
	switch c.program(0) {
	case "conntrack":
		return slices.ContainsFunc(c.pipes[0], func(w string) bool {
			return w == "-L" || w == "--dump"
		}) && !slices.Contains(c.pipes[0], "expect")
	case "cat", "head", "tail", "grep", "egrep", "zcat", "less", "more", "awk", "sed":
		return c.names("/nf_conntrack") && !c.names("/sys/") && !c.names("_expect") &&
			!c.names("/stat/") || c.names("/ip_conntrack") && !c.names("/sys/")
	}
	return false
}

// scope returns which part of the table the output of a command shows.
func (c command) scope() capture.Scope {
	if !c.listsTable() {
		return capture.Unknown
	}
	scope := capture.Whole
	for i, words := range c.pipes {
		switch c.program(i) {
		case "head":
			if scope == capture.Whole {
				scope = capture.Prefix
			}
		case "tail": // the end of a walk is as uniform as its beginning
			if scope == capture.Whole {
				scope = capture.Prefix
			}
		case "grep", "egrep", "awk", "sed", "sort":
			if c.program(i) != "sort" {
				scope = capture.Selection
			}
		case "conntrack":
			if slices.ContainsFunc(words[1:], selects) {
				scope = capture.Selection
			}
		}
	}
	return scope
}

// selects reports whether an option of conntrack(8) keeps entries out of a listing.
func selects(option string) bool {
	for _, begin := range []string{"-p", "-s", "-d", "--s", "--d"} {
		if strings.HasPrefix(option, begin) && option != "--dump" {
			return true
		}
	}
	return slices.Contains([]string{"-f", "-n", "-g", "-u", "-w", "-m"}, option)
}

// counts returns the files whose numbers the command prints, in their order, by the names of
// sysctls: braces are expanded as a shell does.
func (c command) counts() (keys []string) {
	if c.program(0) != "cat" && c.program(0) != "head" && c.program(0) != "tail" {
		return nil
	}
	words := strings.FieldsFunc(c.text, func(r rune) bool { return r == ' ' || r == ';' })
	for _, w := range words {
		for _, file := range expand(w, mostBraces) {
			if rest, ok := strings.CutPrefix(file, "/proc/sys/"); ok {
				keys = append(keys, rest)
			} else if strings.HasSuffix(file, "/parameters/hashsize") {
				keys = append(keys, "net.netfilter.nf_conntrack_buckets")
			}
		}
	}
	return keys
}

// mostBraces bounds the pairs of braces of a word that are expanded: each multiplies the words.
const mostBraces = 2

// expand expands the first pairs of braces of a word, as a shell does.
func expand(word string, most int) []string {
	before, rest, open := strings.Cut(word, "{")
	inside, after, closed := strings.Cut(rest, "}")
	if !open || !closed || most == 0 {
		return []string{word}
	}
	var list []string
	for choice := range strings.SplitSeq(inside, ",") {
		list = append(list, expand(before+choice+after, most-1)...)
	}
	return list
}
