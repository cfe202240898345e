package scenarios

import (
	"cmp"
	"encoding"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/spelling"
)

// nodeDecoder is a type with more than one form in a file.
type nodeDecoder interface {
	decodeNode(p *problems, n *node)
}

// worder is a type with a closed set of values.
type worder interface {
	Words() []string
}

// words returns the values of such a type as strings.
func words[T ~string](values ...T) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = string(value)
	}
	return list
}

// decode fills out, a pointer, from a tree. It reports whatever does not fit as a problem and goes
// on with the rest. extra are keys of the top mapping that other code reads.
func decode(p *problems, n *node, out any, extra ...string) {
	decodeValue(p, n, reflect.ValueOf(out).Elem(), extra...)
}

func decodeValue(p *problems, n *node, v reflect.Value, extra ...string) {
	if n == nil || n.kind == null {
		return
	}
	if custom, ok := v.Addr().Interface().(nodeDecoder); ok {
		custom.decodeNode(p, n)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		decodeValue(p, n, v.Elem())
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if word, ok := scalarText(p, n); ok {
			if err := text.UnmarshalText([]byte(word)); err != nil {
				p.errorf(n.at, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		decodeStruct(p, n, v, extra)
	case reflect.Slice:
		if n.kind != list {
			p.errorf(n.at, "this must be a list, not %s", n.what())
			return
		}
		slice := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
		for i, item := range n.items {
			p.refuse(item.kind == null, item.at, "an item of the list is empty")
			decodeValue(p, item, slice.Index(i))
		}
		v.Set(slice)
	default:
		if word, ok := scalarText(p, n); ok {
			decodeScalar(p, n.at, word, v)
		}
	}
}

// unsaid says why a word cannot be said where a value of this type stands; "" for any other word.
func unsaid(value any, word string) string {
	if refuses, ok := value.(interface{ unsaid(word string) string }); ok {
		return refuses.unsaid(strings.ToLower(word))
	}
	return ""
}

const wantWhole = "this must be a whole number from 0 to %d, not %s"

func decodeScalar(p *problems, at Position, word string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if closed, ok := v.Interface().(worder); ok && !slices.Contains(closed.Words(), word) {
			if why := unsaid(v.Interface(), word); why != "" {
				p.errorf(at, "%s", why)
				return
			}
			hint := spelling.Hint(word, closed.Words())
			p.errorf(at, "%s is not valid here%s", quote(word), hint)
			return
		}
		v.SetString(word)
	case reflect.Bool:
		p.refuse(word != "true" && word != "false", at,
			"this must be true or false, not %s", quote(word))
		v.SetBool(word == "true")
	case reflect.Int:
		if number, err := strconv.ParseInt(word, 10, 32); err == nil && number >= 0 {
			v.SetInt(number)
			return
		}
		p.errorf(at, wantWhole, math.MaxInt32, quote(word))
	case reflect.Uint64:
		number, err := strconv.ParseUint(word, 10, 64)
		p.refuse(err != nil, at, wantWhole, uint64(math.MaxUint64), quote(word))
		v.SetUint(number)
	default:
		panic("scenarios: no decoder for " + v.Type().String())
	}
}

// scalarText returns the text of a scalar; anything else is a problem.
func scalarText(p *problems, n *node) (string, bool) {
	if n.kind == scalar {
		return n.text, true
	}
	p.errorf(n.at, "this must be one value, not %s", n.what())
	return "", false
}

func decodeStruct(p *problems, n *node, v reflect.Value, extra []string) {
	if n.kind != mapping {
		p.errorf(n.at, "this must be keys with values, not %s", n.what())
		return
	}
	keys := append(fieldKeys(v.Type()), extra...)
	for _, e := range n.entries {
		if field := fieldByKey(v, e.key); field.IsValid() {
			decodeValue(p, e.value, field)
		} else if why := unsaid(v.Interface(), e.key); why != "" {
			p.errorf(e.at, "%s", why)
		} else if !slices.Contains(extra, e.key) && !p.failed(e.at) {
			p.errorf(e.at, "unknown key %s%s", quote(e.key), spelling.Hint(e.key, keys))
		}
	}
}

func fieldKeys(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if key := fieldKey(field); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func fieldKey(f reflect.StructField) string { return f.Tag.Get("yaml") }

// fieldByKey returns the field with a key; the zero Value without one.
func fieldByKey(v reflect.Value, key string) reflect.Value {
	for field, value := range v.Fields() {
		if fieldKey(field) == key {
			return value
		}
	}
	return reflect.Value{}
}

func (t *Topology) decodeNode(p *problems, n *node) {
	type plain Topology
	if n.kind == scalar {
		decodeValue(p, n, reflect.ValueOf(&t.Kind).Elem())
		return
	}
	decode(p, n, (*plain)(t))
}

func (r *Recovery) decodeNode(p *problems, n *node) {
	type plain Recovery
	if n.kind != mapping {
		decodeValue(p, n, reflect.ValueOf(&r.AtMost).Elem())
		return
	}
	decode(p, n, (*plain)(r))
	if !n.has("at-most") {
		r.AtMost = max(DefaultRecovery, r.AtLeast)
	}
	p.require(r.AtLeast <= r.AtMost, n.place("at-most"),
		"at-most %s is less than at-least %s", r.AtMost, r.AtLeast)
}

// tree returns the input of decodeNode.
func (r Recovery) tree() *node {
	if r.AtLeast > 0 {
		return fields(r, Recovery{})
	}
	return text(r.AtMost.String())
}

func (ports *Ports) decodeNode(p *problems, n *node) {
	if n.kind != list {
		n = &node{kind: list, at: n.at, items: []*node{n}}
	}
	type plain Ports
	decode(p, n, (*plain)(ports))
}

// decodeNode reads sysctls, which normalise has made a mapping with the current names.
func (s *Settings) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		return // reported by normalise
	}
	for _, e := range n.entries {
		if e.value.kind == null {
			p.refuse(!e.value.taken, e.at, "%s has no value", e.key)
			continue
		}
		if word, ok := scalarText(p, e.value); ok {
			p.refuse(strings.ContainsAny(word, "\r\n"), e.value.at,
				"the value of a sysctl must be one line")
			*s = append(*s, Setting{e.key, word, e.value.lax})
		}
	}
}

// defaultTimeout is for a request or connection, defaultProbeTimeout for one try of a probe.
const (
	defaultTimeout      = Duration(10e9)
	defaultProbeTimeout = Duration(1e9)
	defaultPort         = Port(80)
)

// finish gives a decoded scenario the defaults of the language, so that no other package needs to
// know them.
func finish(r *Resolved, tree *node, names map[string][]string, topology Topology) {
	c, dut := &r.DUT, tree.get("dut")
	orDefault(dut, "kernel", &c.Kernel, DefaultKernel)
	orDefault(dut, "vcpus", &c.VCPUs, DefaultVCPUs)
	orDefault(dut, "memory", &c.Memory, DefaultMemory)
	orDefault(dut, "rules-backend", &c.RulesBackend, BackendNFT)
	orDefault(dut, "nat", &c.NAT, NoNAT)
	for _, text := range []*string{&c.Rules, &c.Rules6, &c.NFT, &c.IPSet, &c.IPVS} {
		if *text == noRules {
			*text = ""
		}
	}
	c.Rules += natTable(c.NAT, topology, IPv4)
	c.Rules6 += natTable(c.NAT, topology, IPv6)
	for i := range r.Workload {
		e, n := &r.Workload[i], tree.get("workload").items[i]
		finishEntry(e, n, c.NAT, topology)
		finishPhase(e, n, r.Phases)
		e.Name = cmp.Or(e.Name, names["workload"][i])
	}
	for i := range r.Actions {
		finishAction(&r.Actions[i], tree.get("actions").items[i], names["actions"][i])
	}
}

// orDefault sets the default of a value that a file does not mention. A mentioned value stays, also
// 0, for the checks to judge.
func orDefault[T comparable](n *node, key string, value *T, standard T) {
	var zero T
	if *value == zero && n.get(key) == nil {
		*value = standard
	}
}

func finishEntry(e *Entry, n *node, nat NAT, topology Topology) {
	orDefault(n, "from", &e.From, nodeClient)
	target := nodeServer
	if topology.Kind == Server || nat == DNAT || nat == Redirect {
		target = nodeDUT
	}
	orDefault(n, "target", &e.Target, target)
	if e.Probe != "" {
		orDefault(n, "timeout", &e.Timeout, defaultProbeTimeout)
		return
	}
	if e.Generator != "" {
		orDefault(n, "sources", &e.Sources, Sources{Count: 1})
	}
	for _, key := range e.Generator.Fact().keys {
		switch key {
		case "ports":
			if !n.has(key) {
				e.Ports = Ports{{defaultPort, defaultPort}}
			}
		case "timeout":
			if !e.Silent && !e.Crafted { // else nothing waits
				orDefault(n, key, &e.Timeout, defaultTimeout)
			}
		case "close":
			orDefault(n, key, &e.Close, CloseFIN)
		case "packets":
			if e.Lifetime.Shape == "" {
				orDefault(n, key, &e.Packets, 1)
			}
		}
	}
}

func natTable(nat NAT, topology Topology, family Family) string {
	if natRules[nat] == "" || !slices.Contains(topology.Families, family) {
		return ""
	}
	rule := strings.ReplaceAll(natRules[nat], "address}", "address"+family.suffix()+"}")
	return "*nat\n-A " + rule + "\nCOMMIT\n"
}

var natRules = map[NAT]string{
	Masquerade: "POSTROUTING -o ${server.interface} -j MASQUERADE",
	SNAT:       "POSTROUTING -o ${server.interface} -j SNAT --to-source ${dut.server.address}",
	DNAT: "PREROUTING -i ${client.interface} -d ${dut.client.address} -j DNAT " +
		"--to-destination ${server.address}",
	Redirect: "PREROUTING -i ${client.interface} -p tcp -j REDIRECT --to-ports 80",
}

func finishAction(a *Action, n *node, name string) {
	a.Name = cmp.Or(a.Name, name)
	for _, key := range a.Kind.Fact().Keys {
		switch key {
		case "node":
			orDefault(n, key, &a.Node, nodeDUT)
		case "link":
			orDefault(n, key, &a.Link, nodeDUT+"/"+nodeClient)
		}
	}
	if a.Kind == actions.Network {
		orDefault(n, "direction", &a.Direction, actions.Both)
	}
	if a.Kind.Undoable() {
		orDefault(n, "times", &a.Times, 1)
	}
}

// finishPhase ends an entry with its phase. Held connections stay: their duration says how long.
func finishPhase(e *Entry, n *node, phases Phases) {
	rest := phases.length(e.Phase) - e.Start
	if e.Phase == "" || rest <= 0 || e.Generator == Hold || len(e.Stages) > 0 {
		return
	}
	orDefault(n, "duration", &e.Duration, rest)
}
