// Package preflight loads rules with the real tools before anything boots: in namespaces of their
// own, on this host's kernel, and apart from this host's files.
package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/sandbox"
)

// Role is the name under which this program starts itself again to load rules.
const Role = "ctload-preflight"

// limit bounds a preflight, which takes some 50 ms for each text.
const limit = time.Minute

// Attempt is sets and rules to load, for a DUT that has the links.
type Attempt struct {
	Links    []string
	Settings tuning.Settings
}

// Fault is something that a tool refuses.
type Fault struct {
	Key    string // of the experiment: rules, rules6, nft, ipset
	Line   int    // of the text; 0: the tool does not tell
	Column int    // 0: likewise
	Said   string // by the tool
	// Kernel says that this host's kernel refused it, which may lack a module that the DUT has.
	Kernel bool
}

// Check makes the attempts, each in a network namespace of its own, with this host's tools apart
// from its files (see tuning.Boxed), and returns the faults of each. An error means that they could
// not be made. Everything that Check makes is in memory that ends with its process.
func Check(ctx context.Context, attempts []Attempt) ([][]Fault, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	input, err := json.Marshal(attempts)
	if err != nil {
		return nil, err
	}
	cmd := sandbox.Command(ctx, Role)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("try the rules: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	var faults [][]Fault
	err = json.Unmarshal(out, &faults)
	return faults, err
}

// Run makes the attempts in the process that [Check] started, and returns its exit status.
func Run() int {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(ctx context.Context) error {
	var attempts []Attempt
	err := errors.Join(json.NewDecoder(os.Stdin).Decode(&attempts), sandbox.Arrange())
	if err != nil {
		return err
	}
	box := filepath.Join(sandbox.RuntimeDir, "tools")
	if err := guest.WriteTools(box, append(guest.DefaultTools(), "?ipset")...); err != nil {
		return err
	}
	runtime.LockOSThread() // the programs that it starts are in its network namespace
	var faults [][]Fault
	for _, a := range attempts {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		faults = append(faults, a.try(ctx, box))
	}
	return json.NewEncoder(os.Stdout).Encode(faults)
}

// try loads the texts one by one, so that each is judged, with the tools of the box.
func (a Attempt) try(ctx context.Context, box string) []Fault {
	for _, name := range a.Links {
		// A rule may name a card by its number, which nft looks up. A kernel without such links
		// judges the rest all the same.
		_ = netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}})
	}
	faults := []Fault{}
	kernel := tuning.Kernel{Run: tuning.Boxed(box), Whole: true}
	s := a.Settings
	lacking := false // a tool, whose lack the lab tells: what it makes is missing
	for _, part := range []struct {
		key string
		tuning.Settings
	}{
		{"ipset", tuning.Settings{IPSet: s.IPSet}},
		{"rules", tuning.Settings{Rules: s.Rules, RulesBackend: s.RulesBackend}},
		{"rules6", tuning.Settings{Rules6: s.Rules6, RulesBackend: s.RulesBackend}},
		{"nft", tuning.Settings{NFT: s.NFT}},
	} {
		err := kernel.LoadRules(ctx, part.Settings, false)
		// The tool has read rules that are too large for a namespace, where they are loaded in
		// parts.
		refused, ok := errors.AsType[*tuning.ToolError](err)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			lacking = true
		case ok && !tuning.TooLarge(err):
			faults = append(faults, read(part.key, refused.Stderr)...)
		}
	}
	if lacking {
		faults = slices.DeleteFunc(faults, func(f Fault) bool { return f.Kernel })
	}
	return faults
}

var (
	// nftFault matches "/dev/stdin:4:12-21: Error: text".
	nftFault = regexp.MustCompile(`(?m)^/dev/stdin:(\d+):(\d+)(?:-\d+)?: Error: (.*)$`)
	// atLine matches how iptables and ipset name the line of their input.
	atLine = regexp.MustCompile(`(?:at line: |[Ll]ine )(\d+)`)
	// prefix matches what the tools begin their words with.
	prefix = regexp.MustCompile(`^[\w-]+ v[\d.]+(?: \(\w+\))?: *`)
	// ofKernel matches words about a refusal of the kernel, or about limits of a namespace.
	ofKernel = regexp.MustCompile(`failed \(|Could not process rule|Kernel error|missing kernel ` +
		`module|Table does not exist|Permission denied|Operation not (?:permitted|supported)|` +
		`Protocol not (?:available|supported)|do you need to insmod|` +
		`can't initialize|Set .* doesn't exist|Cannot open session|Interface does not exist`)
)

// read reads what a tool says of a text that it refuses.
func read(key, said string) (faults []Fault) {
	for _, m := range nftFault.FindAllStringSubmatch(said, -1) {
		line, _ := strconv.Atoi(m[1]) // digits
		column, _ := strconv.Atoi(m[2])
		faults = append(faults, Fault{key, line, column, m[3], ofKernel.MatchString(m[3])})
	}
	if faults != nil {
		return faults
	}
	f := Fault{Key: key, Kernel: ofKernel.MatchString(said)}
	if m := atLine.FindStringSubmatch(said); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
	}
	var words []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(prefix.ReplaceAllString(line, ""))
		hint := strings.HasPrefix(line, "Try `") || strings.HasPrefix(line, "Error occurred at")
		if line != "" && !hint {
			words = append(words, line)
		}
	}
	f.Said = strings.Join(words[:min(2, len(words))], " ")
	return []Fault{f}
}

// quoted matches a word that a tool quotes.
var quoted = regexp.MustCompile("['\"`]([^'\"`]+)['\"`]")

// Locate returns the line of a text that a fault is about, from 1: the tool's own, or, where that
// line ends a table, the last one before it with the word that the tool quotes.
func (f Fault) Locate(text string) int {
	lines := strings.Split(text, "\n")
	if f.Line < 1 || f.Line > len(lines) || strings.TrimSpace(lines[f.Line-1]) != "COMMIT" {
		return f.Line
	}
	if m := quoted.FindStringSubmatch(f.Said); m != nil {
		for i, line := range slices.Backward(lines[:f.Line-1]) {
			if slices.Contains(strings.Fields(line), m[1]) {
				return i + 1
			}
		}
	}
	return f.Line
}
