package tuning

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// Differences returns the ways in which the kernel's state differs from the settings, a sentence
// each; an empty list proves the configuration. The kernel's intended rounding is no difference:
// see [Remarks].
func Differences(s Settings, state State) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	for _, p := range asked(s.Sysctl, state) {
		key, value := p.Key, state.Sysctl[p.Key]
		_, ok := state.Sysctl[key]
		switch {
		case p.Optional:
		case !ok:
			say("%s could not be read: %s", key, state.Unread[key])
		case key == kernels.KeyBuckets && sameBuckets(p.Value, value, state.BucketMultiple):
		case !sameValue(p.Value, value):
			say("%s is %s, not %s as asked", key, value, strings.TrimSpace(p.Value))
		}
	}
	if s.Buckets > 0 {
		switch {
		case state.Buckets < 0:
			why := cmp.Or(state.Unread[kernels.KeyBuckets], "connection tracking is not loaded")
			say("the size of the hash could not be read: %s", why)
		case kernels.RoundBuckets(int64(s.Buckets), state.BucketMultiple) != state.Buckets:
			say("the hash has %d buckets, not %d as asked", state.Buckets, s.Buckets)
		}
	}
	for _, name := range s.LoadModules {
		if name = moduleName(name); state.ModuleStates[name] == ModuleAbsent {
			say("module %s is not loaded", name)
		}
	}
	out = append(out, parameterDifferences(s, state)...)
	for _, name := range s.RemoveModules {
		if name = moduleName(name); state.ModuleStates[name] != ModuleAbsent {
			say("module %s is still there (%s)", name, state.ModuleStates[name])
		}
	}
	for _, part := range []struct{ what, family, asked, loaded, unread string }{
		{"IPv4", rules.IPv4, s.Rules, state.Rules, state.Unread["rules"]},
		{"IPv6", rules.IPv6, s.Rules6, state.Rules6, state.Unread["rules6"]},
	} {
		flushed := s.backend() == BackendNFT && rules.NFT(s.NFT).Flushes(part.family)
		if part.asked == "" || flushed {
			continue
		}
		if part.unread != "" {
			say("the %s rules could not be listed: %s", part.what, part.unread)
			continue
		}
		wanted := rules.Iptables(part.family, part.asked)
		for _, text := range chainDifferences(wanted, rules.Iptables(part.family, part.loaded)) {
			say("%s rules: %s", part.what, text)
		}
	}
	if s.NFT != "" {
		if unread := state.Unread["nft"]; unread != "" {
			say("the nft rules could not be listed: %s", unread)
		} else {
			loaded := rules.NFT(state.NFT)
			for _, table := range rules.NFT(s.NFT).Tables {
				if loaded.Table(table.Family, table.Name) == nil {
					say("nft: table %s is not in the kernel", table.ID())
				}
			}
		}
	}
	return append(out, ipvsDifferences(s, state)...)
}

// asked returns the parameters of settings under their canonical names; in place of patterns those
// that the reading has of them.
func asked(list []Sysctl, state State) (all []Sysctl) {
	for _, p := range list {
		p.Key, _ = kernels.Key(p.Key)
		switch {
		case p.Value == "":
		case !isPattern(p.Key):
			all = append(all, p)
		default:
			pattern := kernels.SwapSeparators(p.Key)
			for _, key := range slices.Sorted(maps.Keys(state.Sysctl)) {
				matches, _ := path.Match(pattern, kernels.SwapSeparators(key))
				if matches && !named(list, key) {
					all = append(all, Sysctl{Key: key, Value: p.Value, Optional: p.Optional})
				}
			}
		}
	}
	return all
}

// parameterDifferences compares the parameters of modules. The size of the hash may have been set
// since.
func parameterDifferences(s Settings, state State) (out []string) {
	for _, entry := range kernels.Loading(s.LoadModules) {
		module := moduleName(entry)
		_, given := splitModule(entry)
		for _, parameter := range given {
			name, value, valued := strings.Cut(parameter, "=")
			have, there := state.Parameters[module+" "+name]
			resized := module == kernels.Module && name == "hashsize"
			switch {
			case state.ModuleStates[module] == ModuleAbsent || have == unreadable:
			case resized && s.Buckets > 0:
			case !there:
				out = append(out, fmt.Sprintf("module %s has no parameter %s: the kernel passes "+
					"over it", module, name))
			case resized && sameBuckets(value, have, state.BucketMultiple):
			case valued && !sameParameter(value, have):
				out = append(out, fmt.Sprintf("parameter %s of module %s is %s, not %s as asked: "+
					"a module that is there already does not get it", name, module, have, value))
			}
		}
	}
	return out
}

// sameParameter compares values of a parameter, which the kernel shows as Y or N where it is a
// switch.
func sameParameter(asked, have string) bool {
	switches := map[string]string{"1": "Y", "y": "Y", "0": "N", "n": "N"}
	return sameValue(asked, have) || cmp.Or(switches[asked], asked) == have
}

// chainDifferences compares the chains of the settings; the tables hold others too. Chains come in
// the order of their names.
func chainDifferences(asked, loaded rules.Ruleset) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	tables := func(a, b *rules.Table) int { return strings.Compare(a.Name, b.Name) }
	chains := func(a, b *rules.Chain) int { return strings.Compare(a.Name, b.Name) }
	for _, table := range slices.SortedFunc(slices.Values(asked.Tables), tables) {
		kernel := loaded.Table(table.Family, table.Name)
		for _, want := range slices.SortedFunc(slices.Values(table.Chains), chains) {
			have := cmp.Or(kernel.Chain(want.Name), &rules.Chain{})
			where := fmt.Sprintf("chain %s of table %s", want.Name, table.Name)
			wanted, exact := want.Loaded()
			held, _ := have.Loaded()
			if unknown := !exact && held > 0; wanted != held && !unknown {
				say("%s holds %d, not %d as asked", where, held, wanted)
			}
			// The kernel may omit an empty chain that accepts all.
			unlisted := have.Policy == "" && want.Policy == "ACCEPT" && wanted == 0
			if want.Policy != "" && have.Policy != want.Policy && !unlisted {
				policy := cmp.Or(have.Policy, "unknown")
				say("the policy of %s is %s, not %s as asked", where, policy, want.Policy)
			}
		}
	}
	return out
}

// Remarks returns the ways in which the kernel satisfies the settings, but not literally, a
// sentence each.
func Remarks(s Settings, state State) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	unit := state.BucketMultiple
	rounded := kernels.RoundBuckets(int64(s.Buckets), unit)
	if s.Buckets > 0 && state.Buckets == rounded && rounded > int64(s.Buckets) {
		say("the kernel rounded the hash from %d up to %d buckets, a multiple of %d",
			s.Buckets, state.Buckets, unit)
	}
	for _, p := range s.Sysctl {
		asked := strings.TrimSpace(p.Value)
		key, renamed := kernels.Key(p.Key)
		if renamed {
			say("%s is called %s in this kernel", strings.TrimSpace(p.Key), key)
		}
		have, there := state.Sysctl[key]
		switch {
		case key == kernels.KeyBuckets && !sameValue(asked, have) &&
			sameBuckets(asked, have, unit):
			say("the kernel rounded %s from %s up to %s, a multiple of %d", key, asked, have, unit)
		case p.Optional && asked != "" && !there && !isPattern(key):
			say("%s, which may be missing, is not in this kernel", key)
		case p.Optional && asked != "" && there && !sameValue(asked, have):
			say("%s, which may be refused, is %s and not %s", key, have, asked)
		}
	}
	return out
}

// Change is one change of a kernel's configuration between two readings.
type Change struct {
	Kind   ChangeKind
	Name   string // of the parameter, the rules or the module
	Before string // a value; of rules the first line that differs
	After  string
}

// ChangeKind is the kind of a change.
type ChangeKind int

// The kinds of change.
const (
	ReleaseChanged ChangeKind = iota
	TrackingCame              // connection tracking was loaded
	TrackingWent
	ValueChanged // of a parameter
	RulesChanged
	ModuleCame
	ModuleWent
)

func (c Change) String() string {
	switch c.Kind {
	case ReleaseChanged:
		return fmt.Sprintf("the kernel changed from %s to %s", c.Before, c.After)
	case TrackingCame:
		return "connection tracking was not loaded and is loaded"
	case TrackingWent:
		return "connection tracking was loaded and is not loaded"
	case RulesChanged:
		if c.Before == c.After {
			return fmt.Sprintf("the %s changed: only in white space", c.Name)
		}
		return fmt.Sprintf("the %s changed: %q is now %q", c.Name, c.Before, c.After)
	case ModuleCame:
		return fmt.Sprintf("module %s was not loaded and is loaded", c.Name)
	case ModuleWent:
		return fmt.Sprintf("module %s was loaded and is not loaded", c.Name)
	default:
		before, after := cmp.Or(c.Before, "nothing"), cmp.Or(c.After, "nothing")
		return fmt.Sprintf("%s changed from %s to %s", c.Name, before, after)
	}
}

// Changes returns the changes of a kernel's configuration between two readings: parameters,
// timeouts, sizes, rules and modules that touch packets, but not the fill of the table, nor
// counters, nor the modules through which ctload observes the kernel.
func Changes(before, after State) []Change {
	var out []Change
	add := func(kind ChangeKind, name string, a, b any) {
		out = append(out, Change{kind, name, fmt.Sprint(a), fmt.Sprint(b)})
	}
	if before.Release != after.Release {
		add(ReleaseChanged, "", before.Release, after.Release)
	}
	switch {
	case after.Loaded && !before.Loaded:
		add(TrackingCame, "", "", "")
	case before.Loaded && !after.Loaded:
		add(TrackingWent, "", "", "")
	}
	for _, size := range []struct {
		name string
		a, b int64
	}{
		{kernels.KeyMax, before.Max, after.Max},
		{kernels.KeyBuckets, before.Buckets, after.Buckets},
	} {
		// The loop below compares a size of the settings.
		if size.a != size.b && before.Sysctl[size.name] == "" {
			add(ValueChanged, size.name, size.a, size.b)
		}
	}
	for _, key := range sortedKeys(before.Sysctl, after.Sysctl) {
		if a, b := before.Sysctl[key], after.Sysctl[key]; !sameValue(a, b) {
			add(ValueChanged, key, a, b)
		}
	}
	for _, key := range sortedKeys(before.Timeouts, after.Timeouts) {
		if _, asked := before.Sysctl[key]; asked {
			continue
		}
		if a, b := before.Timeouts[key], after.Timeouts[key]; a != b {
			add(ValueChanged, key, a, b)
		}
	}
	for _, text := range []struct{ what, a, b string }{
		{"IPv4 rules", before.Rules, after.Rules},
		{"IPv6 rules", before.Rules6, after.Rules6},
		{"nft rules", rules.ByName(before.NFT), rules.ByName(after.NFT)},
		{"IPVS services", before.IPVS, after.IPVS},
	} {
		if a, b := rules.Bare(text.a), rules.Bare(text.b); a != b {
			was, is := firstChange(a, b)
			add(RulesChanged, text.what, was, is)
		}
	}
	a, b := moduleSet(before.Modules), moduleSet(after.Modules)
	for _, name := range sortedKeys(a, b) {
		switch {
		case b[name] && !a[name]:
			add(ModuleCame, name, "", "")
		case a[name] && !b[name]:
			add(ModuleWent, name, "", "")
		}
	}
	return out
}

// moduleSet returns the modules whose loading or removal changes the treatment of packets.
func moduleSet(modules []Module) map[string]bool {
	set := map[string]bool{}
	for _, module := range modules {
		if packetModule.MatchString(module.Name) && !slices.Contains(observers, module.Name) {
			set[module.Name] = true
		}
	}
	return set
}

// packetModule matches netfilter, bridges, traffic control, congestion control, IPVS and Open
// vSwitch.
var packetModule = regexp.MustCompile(`^(nf_|nft_|xt_|ipt_|ip6t_|ebt_|arpt_|ip_tables|ip6_tables|` +
	`iptable_|ip6table_|ebtable|arptable|x_tables|ip_set|ip_vs|bridge|br_netfilter|sch_|cls_|` +
	`act_|tcp_|openvswitch|nfnetlink_queue|veth|ifb)`)

// observers lists modules that reading itself loads: a sampler of counters, the listing of rules.
var observers = []string{
	"nf_conntrack_netlink", "nf_tables", "nft_compat", "x_tables", "ip_tables", "ip6_tables",
}

func sortedKeys[V any](a, b map[string]V) []string {
	union := map[string]V{}
	maps.Copy(union, a)
	maps.Copy(union, b)
	return slices.Sorted(maps.Keys(union))
}

// firstChange returns the first line in which two listings differ, before and after: two equal ones
// where only white space differs.
func firstChange(a, b string) (was, is string) {
	for a != "" || b != "" {
		was, a, _ = strings.Cut(a, "\n")
		is, b, _ = strings.Cut(b, "\n")
		if was, is = strings.TrimSpace(was), strings.TrimSpace(is); was != is {
			return was, is
		}
	}
	return "", ""
}

// sameValue compares values as the kernel reads them: numbers in any base that it accepts, lists
// with any separator.
func sameValue(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return slices.EqualFunc(x, y, func(a, b string) bool {
		if a == b {
			return true
		}
		m, errM := strconv.ParseInt(a, 0, 64)
		n, errN := strconv.ParseInt(b, 0, 64)
		return errM == nil && errN == nil && m == n
	})
}

// sameBuckets compares sizes of the hash within the kernel's rounding.
func sameBuckets(asked, have string, multiple int64) bool {
	a, errA := strconv.ParseInt(strings.TrimSpace(asked), 0, 64)
	b, errB := strconv.ParseInt(strings.TrimSpace(have), 0, 64)
	return errA == nil && errB == nil && kernels.RoundBuckets(a, multiple) == b
}

// applyIPVS loads services of the kernel's load balancer (IPVS), as its tool ipvsadm saves them.
func (k Kernel) applyIPVS(ctx context.Context, s Settings) error {
	if s.IPVS == "" {
		return nil
	}
	err := step(ctx, "load module ip_vs", func() error { return k.Load(ctx, "ip_vs") })
	if err != nil {
		return err
	}
	return step(ctx, "load the IPVS services", func() error {
		_, err := k.run(ctx, terminated(s.IPVS), "ipvsadm", "-R")
		return err
	})
}

// readIPVS lists the services, if the settings have any.
func (k Kernel) readIPVS(ctx context.Context, s Settings, state *State) {
	if s.IPVS == "" {
		return
	}
	var err error
	state.IPVS, err = k.run(ctx, "", "ipvsadm", "-S", "-n")
	state.unread("ipvs", err)
}

// ipvsDifferences returns the services and servers of the settings that the kernel lacks.
func ipvsDifferences(s Settings, state State) []string {
	if s.IPVS == "" {
		return nil
	}
	if unread := state.Unread["ipvs"]; unread != "" {
		return []string{"the IPVS services could not be listed: " + unread}
	}
	var out []string
	loaded := ipvsServices(state.IPVS)
	for _, service := range ipvsServices(s.IPVS) {
		if !slices.Contains(loaded, service) {
			out = append(out, fmt.Sprintf("IPVS: %s is not in the kernel", service))
		}
	}
	return out
}

// ipvsServices returns the services and the servers in the input of ipvsadm -R: a line each with
// what identifies it, as "-A -t 10.0.0.1:80" or "-a -t 10.0.0.1:80 -r 10.0.1.2:80". It omits
// schedulers, weights and ways of forwarding, which have defaults.
func ipvsServices(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || strings.HasPrefix(words[0], "#") {
			continue
		}
		commands := map[string]string{"--add-service": "-A", "--add-server": "-a"}
		command := cmp.Or(commands[words[0]], words[0])
		service, server := "", ""
		for i := 1; i+1 < len(words); i++ {
			switch words[i] {
			case "-t", "--tcp-service":
				service = "-t " + words[i+1]
			case "-u", "--udp-service":
				service = "-u " + words[i+1]
			case "-f", "--fwmark-service":
				service = "-f " + words[i+1]
			case "-r", "--real-server":
				server = " -r " + words[i+1]
			}
		}
		if (command == "-A" || command == "-a") && service != "" {
			out = append(out, command+" "+service+server)
		}
	}
	return out
}
