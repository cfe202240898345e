package tuning

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/ctnetlink"
)

// policy is a chain of nf_tables at a hook, with the packets that met its policy.
type policy struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Packets and Bytes count since the counter was added; Counted is false without one.
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
	Counted bool  `json:"counted"`

	family uint8
	judges bool // its policy drops, or the chain is of NAT, whose policy ends a lookup
}

// nftFamilies are the families of tables by number (NFPROTO_*).
var nftFamilies = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
	unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

// The messages, from include/uapi/linux/netfilter/nf_tables.h.
const (
	newChain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
	getChain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	nfDrop   = 0 // NF_DROP
)

// countPolicies gives a counter to each chain of nf_tables whose policy decides something: nft has
// no word for it, and so has no counter there, but the kernel has had one since Linux 3.14 for
// iptables over nf_tables. It changes no rule and no listing of nft. A kernel that refuses leaves
// the policy uncounted, which the reading says.
func countPolicies(ctx context.Context) error {
	policies, err := readPolicies(ctx)
	if err != nil {
		return err
	}
	for _, p := range policies {
		if p.judges && !p.Counted {
			_ = p.count()
		}
	}
	return nil
}

// readPolicies lists the chains at hooks.
func readPolicies(ctx context.Context) (list []policy, err error) {
	err = ctnetlink.Dump(ctx, getChain, unix.NFPROTO_UNSPEC, func(message []byte) error {
		p, base, err := parsePolicy(message)
		if base {
			list = append(list, p)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	return list, nil
}

// parsePolicy reads a chain; base is false for one without a hook.
func parsePolicy(message []byte) (p policy, base bool, err error) {
	if len(message) < ctnetlink.HeaderLength {
		return p, false, fmt.Errorf("%w: message of %d bytes", ctnetlink.ErrFormat, len(message))
	}
	p.family = message[0]
	p.Family = nftFamilies[p.family]
	message = message[ctnetlink.HeaderLength:]
	err = ctnetlink.Attributes(message, func(kind int, value []byte) error {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			p.Table = unix.ByteSliceToString(value)
		case unix.NFTA_CHAIN_NAME:
			p.Chain = unix.ByteSliceToString(value)
		case unix.NFTA_CHAIN_HOOK:
			base = true
		case unix.NFTA_CHAIN_POLICY:
			drops := len(value) == 4 && binary.BigEndian.Uint32(value) == nfDrop
			p.judges = p.judges || drops
		case unix.NFTA_CHAIN_TYPE:
			p.judges = p.judges || unix.ByteSliceToString(value) == "nat"
		case unix.NFTA_CHAIN_COUNTERS:
			p.Counted = true
			return ctnetlink.Attributes(value, p.readCounter)
		}
		return nil
	})
	return p, base, err
}

func (p *policy) readCounter(kind int, value []byte) error {
	if len(value) != 8 {
		return nil
	}
	switch n := int64(binary.BigEndian.Uint64(value)); kind {
	case unix.NFTA_COUNTER_PACKETS:
		p.Packets = n
	case unix.NFTA_COUNTER_BYTES:
		p.Bytes = n
	}
	return nil
}

// count adds a counter to the chain.
func (p policy) count() error {
	encoder := netlink.NewAttributeEncoder()
	encoder.ByteOrder = binary.BigEndian
	encoder.String(unix.NFTA_CHAIN_TABLE, p.Table)
	encoder.String(unix.NFTA_CHAIN_NAME, p.Chain)
	encoder.Nested(unix.NFTA_CHAIN_COUNTERS, func(counters *netlink.AttributeEncoder) error {
		counters.ByteOrder = binary.BigEndian
		counters.Uint64(unix.NFTA_COUNTER_BYTES, 0)
		counters.Uint64(unix.NFTA_COUNTER_PACKETS, 0)
		return nil
	})
	attributes, err := encoder.Encode()
	if err != nil {
		return fmt.Errorf("encode a counter: %w", err)
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer conn.Close()
	// nf_tables takes changes between a begin and an end alone.
	part := func(kind netlink.HeaderType, flags netlink.HeaderFlags, family uint8, subsystem uint16,
		data []byte,
	) netlink.Message {
		head := append([]byte{family, unix.NFNETLINK_V0}, 0, 0)
		binary.BigEndian.PutUint16(head[2:], subsystem)
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request | flags},
			Data:   append(head, data...),
		}
	}
	_, err = conn.SendMessages([]netlink.Message{
		part(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
		part(newChain, netlink.Acknowledge, p.family, 0, attributes),
		part(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
	})
	if err == nil {
		_, err = conn.Receive()
	}
	if err != nil {
		return fmt.Errorf("add a counter to chain %s of table %s %s: %w",
			p.Chain, p.Family, p.Table, err)
	}
	return nil
}
