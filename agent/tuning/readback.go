package tuning

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

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
	// IPVS holds the services of the load balancer as ipvsadm -S -n prints them; empty without any
	// in the settings.
	IPVS string `json:"ipvs,omitempty"`
	// Modules lists the loaded modules by name; empty on a kernel without modules.
	Modules []Module `json:"modules,omitempty"`
	// ModuleStates holds the state of each module of the settings.
	ModuleStates map[string]ModuleState `json:"module_states,omitempty"`
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

// texts returns the rules of the reading.
func (s State) texts() rules.Texts { return rules.Texts{IPv4: s.Rules, IPv6: s.Rules6, NFT: s.NFT} }

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
		Unread:         map[string]string{},
	}
	k.readConntrack(&state)
	for _, p := range s.Sysctl {
		key, _ := kernels.Key(p.Key)
		value, err := k.ReadSysctl(key)
		if err == nil {
			state.Sysctl[key] = value
		}
		state.unread(key, err)
	}
	loaded, err := k.modules()
	state.unread("modules", err)
	k.readRules(ctx, s, loaded, &state)
	k.readIPVS(ctx, s, &state)
	state.Tracking = k.tracking(state)
	// Last, since the questions above may load the modules that answer them.
	loaded, err = k.modules()
	state.unread("modules", err)
	state.Modules = slices.SortedFunc(maps.Values(loaded), func(a, b Module) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range slices.Concat(s.LoadModules, s.RemoveModules) {
		state.ModuleStates[moduleName(name)] = k.moduleState(name, loaded)
	}
	return state, ctx.Err()
}

func (k Kernel) release() string {
	if text, err := os.ReadFile(k.procSys("kernel/osrelease")); err == nil {
		return strings.TrimSpace(string(text))
	}
	return kernels.Running()
}

// readConntrack reads the size and the fill of the table and all its timeouts.
func (k Kernel) readConntrack(state *State) {
	for name, field := range map[string]*int64{"max": &state.Max, "buckets": &state.Buckets, "count": &state.Count} {
		text, err := k.ReadSysctl(kernels.Prefix + name)
		if err == nil {
			*field, err = strconv.ParseInt(text, 10, 64)
		}
		if state.Loaded {
			state.unread(kernels.Prefix+name, err)
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
}

// listTables lists all tables, or those of asked where the kernel hides the list of their names:
// /proc/net/ip_tables_names belongs to the user who was root of the namespace when it was made,
// which is no user if the map of users was written later.
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
