package tuning

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/rules"
)

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
		return Tracking{IPv4: No, IPv6: No, Source: evidenceAbsent, Evidence: "connection tracking is not loaded"}
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
	t := Tracking{IPv4: No, IPv6: No, Source: evidenceRules, Evidence: "nothing is tracked, because no rule asks for it"}
	read := rules.Read(state.texts())
	for family, answer := range map[string]*Answer{rules.IPv6: &t.IPv6, rules.IPv4: &t.IPv4} {
		if read.Tracks(family) != nil {
			*answer = Yes
		}
	}
	if cause := cmp.Or(read.Tracks(rules.IPv4), read.Tracks(rules.IPv6)); cause != nil {
		t.Evidence = "tracking is on because of the " + cause.Text
	}
	for what, answer := range map[string][]*Answer{"rules": {&t.IPv4}, "rules6": {&t.IPv6}, "nft": {&t.IPv4, &t.IPv6}} {
		for _, a := range answer {
			if state.Unread[what] != "" && *a == No {
				*a = Unknown
			}
		}
	}
	if t.IPv4 != Yes && t.IPv6 != Yes && (t.IPv4 == Unknown || t.IPv6 == Unknown) {
		t.Evidence = "no rule that could be listed asks for tracking, but not all could be listed"
	}
	if t.IPv4 == No && t.IPv6 == No && state.Count > 0 {
		return Tracking{IPv4: Unknown, IPv6: Unknown, Source: evidenceCount, Evidence: "the table holds entries, though no rule that was seen asks for tracking"}
	}
	return t
}

// From include/uapi/linux/netfilter/nfnetlink_hook.h.
const (
	nfnlSubsysHook   = 12
	nfnlMsgHookGet   = 0
	nfnlaHookHooknum = 1
	nfnlaHookFunc    = 4
)

// hookTimeout bounds one question to the kernel about its hooks. The kernel answers at once; the
// limit covers a node that stands still meanwhile.
const hookTimeout = 5 * time.Second

// hookTracking asks the kernel which functions are registered at PREROUTING and OUTPUT
// (nfnetlink_hook, Linux 5.14, needs CAP_NET_ADMIN and CONFIG_KALLSYMS for names of functions).
// Connection tracking is on for a family when its ipv4_conntrack_in or ipv6_conntrack_in is among
// them. The call may load the module nfnetlink_hook, which tracks nothing.
func hookTracking() (t Tracking, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return t, fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	var found []string
	answers := map[uint8]Answer{unix.NFPROTO_IPV4: No, unix.NFPROTO_IPV6: No}
	for family := range answers {
		for _, hook := range []uint32{unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT} {
			functions, err := hookFunctions(conn, family, hook)
			if err != nil {
				return t, err
			}
			for _, function := range functions {
				if strings.Contains(function, "_conntrack_in") || strings.Contains(function, "_conntrack_local") {
					answers[family] = Yes
					found = append(found, function)
				}
			}
		}
	}
	t = Tracking{IPv4: answers[unix.NFPROTO_IPV4], IPv6: answers[unix.NFPROTO_IPV6], Source: evidenceHooks}
	t.Evidence = "nothing is tracked, because no rule asks for it: the kernel lists no hook of connection tracking"
	if len(found) > 0 {
		slices.Sort(found)
		t.Evidence = "tracking is on: the kernel lists the hooks " + strings.Join(slices.Compact(found), ", ")
	}
	return t, nil
}

// hookFunctions returns the functions registered at one hook of one family, in the order of their
// priority. For a hook without any the kernel answers with ENOENT or nothing, depending on its
// version.
func hookFunctions(conn *netlink.Conn, family uint8, hook uint32) ([]string, error) {
	if err := conn.SetDeadline(time.Now().Add(hookTimeout)); err != nil {
		return nil, fmt.Errorf("set a time limit: %w", err)
	}
	encoder := netlink.NewAttributeEncoder()
	encoder.ByteOrder = binary.BigEndian
	encoder.Uint32(nfnlaHookHooknum, hook)
	attributes, err := encoder.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode the hook: %w", err)
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  nfnlSubsysHook<<8 | nfnlMsgHookGet,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the hooks: %w", err)
	}
	var functions []string
	for _, reply := range replies {
		function, err := hookFunction(reply.Data)
		if err != nil {
			return nil, err
		}
		if function != "" {
			functions = append(functions, function)
		}
	}
	if len(replies) > 0 && len(functions) == 0 {
		return nil, errors.New("list the hooks: the kernel does not name the functions")
	}
	return functions, nil
}

// hookFunction returns the name of the function in one message of the listing.
func hookFunction(data []byte) (string, error) {
	if len(data) < 4 { // struct nfgenmsg
		return "", fmt.Errorf("list the hooks: a message of %d bytes", len(data))
	}
	decoder, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return "", fmt.Errorf("list the hooks: %w", err)
	}
	function := ""
	for decoder.Next() {
		if decoder.Type() == nfnlaHookFunc {
			function = decoder.String()
		}
	}
	if err := decoder.Err(); err != nil {
		return "", fmt.Errorf("list the hooks: %w", err)
	}
	return function, nil
}
