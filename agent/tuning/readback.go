package tuning

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// State is the kernel's own report. The settings decide only which questions ReadBack asks.
type State struct {
	Release string `json:"release"` // uname -r
	// Loaded reports whether the kernel has connection tracking. It does not mean that the kernel
	// tracks: see Tracking.
	Loaded bool `json:"conntrack_loaded"`
	// Max, Buckets and Count are -1 when unknown.
	Max     int64 `json:"max"`
	Buckets int64 `json:"buckets"`
	Count   int64 `json:"count"`
	// BucketMultiple is the unit in which this kernel sizes the hash: a page of pointers.
	BucketMultiple int64 `json:"bucket_multiple"`
	// Sysctl holds each readable key of the settings in its canonical form.
	Sysctl map[string]string `json:"sysctl,omitempty"`
	// Timeouts holds all timeouts of connection tracking, by canonical key, in seconds.
	Timeouts map[string]int64 `json:"timeouts,omitempty"`
	// Rules, Rules6 and NFT hold the rules with their counters, as iptables-save -c, ip6tables-save
	// -c and nft list ruleset print them; empty when the settings and the kernel have none.
	Rules  string `json:"rules,omitempty"`
	Rules6 string `json:"rules6,omitempty"`
	NFT    string `json:"nft,omitempty"`
	// Policies are the chains of nf_tables at hooks.
	Policies []policy `json:"policies,omitempty"`
	// IPVS holds the services of the load balancer as ipvsadm -S -n prints them; empty without any
	// in the settings.
	IPVS string `json:"ipvs,omitempty"`
	// Modules lists the loaded modules by name; empty on a kernel without modules.
	Modules []Module `json:"modules,omitempty"`
	// ModuleStates holds the state of each module of the settings.
	ModuleStates map[string]ModuleState `json:"module_states,omitempty"`
	// Parameters holds the readable parameters of those modules that the settings give parameters,
	// by "MODULE PARAMETER".
	Parameters map[string]string `json:"module_parameters,omitempty"`
	// Tracking says whether the kernel tracks packets, and why.
	Tracking Tracking `json:"tracking"`
	// Unread holds what could not be read, with the reason.
	Unread map[string]string `json:"unread,omitempty"`
}

// bucketMultiple is the number of buckets that fill a page of this kernel.
var bucketMultiple = int64(os.Getpagesize() / (strconv.IntSize / 8))

// unread records the reason for which something could not be read; nil: it was read.
func (s *State) unread(what string, err error) {
	if err != nil {
		s.Unread[what] = err.Error()
	}
}

// ruleset returns the rules of the reading, with the counters of policies that no listing has.
func (s State) ruleset() rules.Ruleset {
	read := rules.Read(rules.Texts{IPv4: s.Rules, IPv6: s.Rules6, NFT: s.NFT})
	for _, p := range s.Policies {
		c := read.Table(p.Family, p.Table).Chain(p.Chain)
		if c != nil && p.Counted && !c.Count.Known {
			c.Count = rules.Counter{Packets: p.Packets, Bytes: p.Bytes, Known: true}
		}
	}
	return read
}

// ReadBack reads the current value of everything in the settings, and of connection tracking as a
// whole. It loads no module and turns nothing on, except nf_tables or the legacy tables where the
// settings have rules in them. State.Unread records each failed reading; ReadBack returns an error
// only when ctx ends.
func (k Kernel) ReadBack(ctx context.Context, s Settings) (State, error) {
	state := State{
		Release:        k.release(),
		Loaded:         k.conntrackLoaded(),
		Max:            -1,
		Buckets:        -1,
		Count:          -1,
		BucketMultiple: bucketMultiple,
		Sysctl:         map[string]string{},
		Timeouts:       map[string]int64{},
		ModuleStates:   map[string]ModuleState{},
		Parameters:     map[string]string{},
		Unread:         map[string]string{},
	}
	k.readConntrack(&state)
	for _, p := range k.expanded(s.Sysctl) {
		value, err := k.ReadSysctl(p.Key)
		if err == nil {
			state.Sysctl[p.Key] = value
		}
		state.unread(p.Key, err)
	}
	loaded, err := k.modules()
	state.unread("modules", err)
	k.readRules(ctx, s, loaded, &state)
	k.readIPVS(ctx, s, &state)
	state.Tracking = k.tracking(state)
	// Last, since the questions above may load the modules that answer them.
	loaded, err = k.modules()
	state.unread("modules", err)
	for _, name := range slices.Sorted(maps.Keys(loaded)) {
		state.Modules = append(state.Modules, loaded[name])
	}
	for _, name := range slices.Concat(s.LoadModules, s.RemoveModules) {
		state.ModuleStates[moduleName(name)] = k.moduleState(name, loaded)
	}
	k.readParameters(s, &state)
	return state, ctx.Err()
}

// readParameters reads the parameters of modules. One that is there and cannot be read is "?".
func (k Kernel) readParameters(s Settings, state *State) {
	for _, entry := range kernels.Loading(s.LoadModules) {
		module := moduleName(entry)
		_, given := splitModule(entry)
		for _, parameter := range given {
			name, _, _ := strings.Cut(parameter, "=")
			file := filepath.Join(k.sys(), "module", module, "parameters", name)
			switch text, err := os.ReadFile(file); {
			case err == nil:
				state.Parameters[module+" "+name] = strings.TrimSpace(string(text))
			case !errors.Is(err, fs.ErrNotExist):
				state.Parameters[module+" "+name] = unreadable
			}
		}
	}
}

// unreadable stands for the value of a parameter that the kernel does not show.
const unreadable = "?"

func (k Kernel) release() string {
	if text, err := os.ReadFile(k.procSys("kernel/osrelease")); err == nil {
		return strings.TrimSpace(string(text))
	}
	return kernels.Running()
}

// readConntrack reads the size and the fill of the table and all its timeouts.
func (k Kernel) readConntrack(state *State) {
	for key, field := range map[string]*int64{
		kernels.KeyMax: &state.Max, kernels.KeyBuckets: &state.Buckets,
		kernels.KeyCount: &state.Count,
	} {
		text, err := k.ReadSysctl(key)
		if err == nil {
			*field, err = strconv.ParseInt(text, 10, 64)
		}
		if state.Loaded {
			state.unread(key, err)
		}
	}
	entries, err := os.ReadDir(k.procSys("net/netfilter"))
	if err != nil {
		return // no connection tracking: Loaded reports it
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, "nf_conntrack_") || !strings.Contains(name, "_timeout") {
			continue
		}
		key := "net.netfilter." + name
		text, err := k.ReadSysctl(key)
		state.unread(key, err)
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
			state.Timeouts[key] = seconds
		}
	}
}

// readRules lists the rules of the settings and, where their tools are installed, any others in the
// kernel.
func (k Kernel) readRules(ctx context.Context, s Settings, loaded map[string]Module, state *State) {
	for i, source := range []struct {
		what, wanted string
		into         *string
	}{{"rules", s.Rules, &state.Rules}, {"rules6", s.Rules6, &state.Rules6}} {
		var err error
		switch {
		case source.wanted != "":
			*source.into, err = k.listTables(ctx, s.tool(families[i].tool, "save"), source.wanted)
		case k.hasTables(families[i].names):
			*source.into, err = k.run(ctx, "", families[i].tool+"-"+BackendLegacy+"-save", "-c")
		}
		state.unread(source.what, err)
	}
	iptablesNFT := (s.Rules != "" || s.Rules6 != "") && s.backend() == BackendNFT
	if s.NFT != "" || k.hasNFT(loaded) && !iptablesNFT {
		var err error
		state.NFT, err = k.run(ctx, "", "nft", "list", "ruleset")
		state.unread("nft", err)
	}
	if s.usesNFT() || k.hasNFT(loaded) {
		var err error
		state.Policies, err = readPolicies(ctx)
		state.unread("policies", err)
	}
}

// listTables lists all tables, or those of asked where the kernel hides the list of their names:
// /proc/net/ip_tables_names belongs to the user who was root of the namespace when it was made. If
// the map of users was written later, it belongs to no user.
func (k Kernel) listTables(ctx context.Context, tool, asked string) (string, error) {
	text, err := k.run(ctx, "", tool, "-c")
	if err == nil {
		return text, nil
	}
	var all strings.Builder
	for _, table := range rules.Iptables("", asked).Tables {
		text, tableErr := k.run(ctx, "", tool, "-c", "-t", table.Name)
		if tableErr != nil {
			return "", err
		}
		all.WriteString(text)
	}
	return all.String(), nil
}

// hasTables reports whether legacy iptables has any table in this namespace.
func (k Kernel) hasTables(names string) bool {
	tables, _ := k.legacyTables(names)
	return len(tables) > 0
}

// Answer is yes, no, or unknown without evidence either way.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// The kinds of evidence for [Tracking], the strongest first.
const (
	evidenceAbsent = "absent" // the kernel has no connection tracking
	evidenceHooks  = "hooks"  // the kernel's own list of hooks
	evidenceCount  = "count"  // the table has entries
	evidenceRules  = "rules"  // requirements of the rules
)

// Tracking says whether packets of this network namespace pass through connection tracking. Since
// Linux 4.14 the module alone tracks nothing: the kernel registers its hooks when the first rule
// needs them, separately for each address family.
type Tracking struct {
	IPv4     Answer `json:"ipv4"`
	IPv6     Answer `json:"ipv6"`
	Source   string `json:"source"`   // one of the kinds of evidence
	Evidence string `json:"evidence"` // a sentence
}

// tracking returns the best available evidence.
func (k Kernel) tracking(state State) Tracking {
	if !state.Loaded {
		return Tracking{No, No, evidenceAbsent, "connection tracking is not loaded"}
	}
	if t, err := hookTracking(); err == nil {
		return t
	}
	return inferTracking(state)
}

// inferTracking judges by the rules read, and by the count where they are inconclusive. Without a
// rule that needs tracking the answer is no only if the rules of all kinds were read;
// enable_hooks=1, a parameter of the module, shows only in the count.
func inferTracking(state State) Tracking {
	t := Tracking{No, No, evidenceRules, "nothing is tracked, because no rule asks for it"}
	read := state.ruleset()
	for family, answer := range map[string]*Answer{rules.IPv6: &t.IPv6, rules.IPv4: &t.IPv4} {
		if read.Tracks(family) != nil {
			*answer = Yes
		}
	}
	if cause := cmp.Or(read.Tracks(rules.IPv4), read.Tracks(rules.IPv6)); cause != nil {
		t.Evidence = "tracking is on because of the " + cause.Text
	}
	for what, answer := range map[string]*Answer{"rules": &t.IPv4, "rules6": &t.IPv6} {
		if *answer == No && (state.Unread[what] != "" || state.Unread["nft"] != "") {
			*answer = Unknown
		}
	}
	switch {
	case t.IPv4 == Yes || t.IPv6 == Yes:
	case t.IPv4 == Unknown || t.IPv6 == Unknown:
		t.Evidence = "no rule that could be listed asks for tracking, but not all could be listed"
	case state.Count > 0:
		return Tracking{Unknown, Unknown, evidenceCount,
			"the table holds entries, though no rule that was seen asks for tracking"}
	}
	return t
}

// From include/uapi/linux/netfilter/nfnetlink_hook.h.
const (
	getHooks     = 12 << 8 // NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET
	hookNumber   = 1       // NFNLA_HOOK_HOOKNUM
	hookFunction = 4       // NFNLA_HOOK_FUNCTION_NAME
)

// hookTracking asks the kernel which functions are registered at PREROUTING and OUTPUT
// (nfnetlink_hook, Linux 5.14, needs CAP_NET_ADMIN and CONFIG_KALLSYMS for names of functions).
// Connection tracking is on for a family when its ipv4_conntrack_in or ipv6_conntrack_in is among
// them. The call may load the module nfnetlink_hook, which tracks nothing.
func hookTracking() (Tracking, error) {
	var found []string
	t := Tracking{No, No, evidenceHooks, "nothing is tracked, because no rule asks for it: " +
		"the kernel lists no hook of connection tracking"}
	for family, answer := range map[uint8]*Answer{
		unix.NFPROTO_IPV4: &t.IPv4, unix.NFPROTO_IPV6: &t.IPv6,
	} {
		for _, hook := range []uint32{unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT} {
			functions, err := hookFunctions(family, hook)
			if err != nil {
				return t, fmt.Errorf("list the hooks: %w", err)
			}
			for _, function := range functions {
				if conntrackFunction.MatchString(function) {
					*answer = Yes
					found = append(found, function)
				}
			}
		}
	}
	if len(found) > 0 {
		slices.Sort(found)
		found = slices.Compact(found)
		t.Evidence = "tracking is on: the kernel lists the hooks " + strings.Join(found, ", ")
	}
	return t, nil
}

var conntrackFunction = regexp.MustCompile(`_conntrack_(in|local)`)

// hookFunctions returns the functions registered at one hook of one family, in the order of their
// priority. For a hook without any the kernel answers with ENOENT or nothing, depending on its
// version.
func hookFunctions(family uint8, hook uint32) (functions []string, err error) {
	listed := false
	take := func(message []byte) error {
		listed = true
		function, err := parseHook(message)
		if function != "" {
			functions = append(functions, function)
		}
		return err
	}
	number := ctnetlink.Attribute{Kind: hookNumber, Value: binary.BigEndian.AppendUint32(nil, hook)}
	err = ctnetlink.Dump(context.Background(), getHooks, family, take, number)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err == nil && listed && functions == nil {
		err = errors.New("the kernel does not name the functions")
	}
	return functions, err
}

// parseHook returns the name of the function in one message of the listing.
func parseHook(message []byte) (function string, err error) {
	if len(message) < ctnetlink.HeaderLength {
		return "", fmt.Errorf("%w: message of %d bytes", ctnetlink.ErrFormat, len(message))
	}
	take := func(kind int, value []byte) error {
		if kind == hookFunction {
			function = unix.ByteSliceToString(value)
		}
		return nil
	}
	err = ctnetlink.Attributes(message[ctnetlink.HeaderLength:], take)
	return function, err
}
