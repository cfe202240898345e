package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
)

func init() {
	makers[actions.Flush] = maker{nil, (*Set).flush}
	makers[actions.Delete] = maker{checkDelete, (*Set).remove}
}

// tableLimit bounds one exchange with the kernel about the table: a flush of 200,000 entries takes
// a second under emulation.
const tableLimit = 20 * time.Second

// flush removes every entry of the node's network namespace.
func (s *Set) flush(context.Context, Fault) (*change, error) {
	c, err := s.tableChange()
	if err != nil {
		return nil, err
	}
	c.do = func(context.Context) (err error) {
		conn, err := dialTable()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.close()) }()
		_, err = conn.ask(flushRequest(), 1)
		c.remarkLoaded()
		return err
	}
	return c, nil
}

// remove removes the entries that match a filter. It walks the table once, and may miss entries
// that come meanwhile.
func (s *Set) remove(_ context.Context, f Fault) (*change, error) {
	m, err := compile(f.Delete)
	if err != nil {
		return nil, err
	}
	c, err := s.tableChange()
	if err != nil {
		return nil, err
	}
	c.do = func(ctx context.Context) (err error) {
		conn, err := dialTable()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.close()) }()
		matched, gone, err := conn.remove(ctx, m)
		c.figures = append(c.figures,
			Figure{Name: "entries removed", Before: "0", After: strconv.Itoa(matched - gone)},
			Figure{Name: "entries gone by themselves", Before: "0", After: strconv.Itoa(gone)})
		c.remarkLoaded()
		return err
	}
	return c, nil
}

// countSubject is the fill of the table.
const countSubject = kernels.KeyCount

// netlinkModule answers questions about the table. The kernel loads it for the first one.
const netlinkModule = "nf_conntrack_netlink"

// tableChange returns a change of the entries of the table, which must exist.
func (s *Set) tableChange() (*change, error) {
	k := s.node.Kernel
	count, err := k.ReadCount()
	if err != nil {
		return nil, err
	}
	if count < 0 {
		return nil, errors.New("connection tracking is not loaded: there is no table")
	}
	before, err := k.ModuleState(netlinkModule)
	if err != nil {
		return nil, err
	}
	c := &change{parts: []*part{{
		subject: countSubject,
		read: func(context.Context) (string, error) {
			count, err := k.ReadCount()
			return strconv.FormatInt(count, 10), err
		},
	}}}
	c.remarkLoaded = func() {
		if now, err := k.ModuleState(netlinkModule); err == nil && before == tuning.ModuleAbsent && now != before {
			c.remarks = append(c.remarks, "the kernel loaded "+netlinkModule+" to remove entries")
		}
	}
	return c, nil
}

// table is a connection to ctnetlink. It needs CAP_NET_ADMIN.
type table struct {
	fd     int
	buffer []byte
}

func dialTable() (*table, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	limit := unix.NsecToTimeval(tableLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, errors.Join(fmt.Errorf("set a time limit for the netfilter socket: %w", err), unix.Close(fd))
	}
	return &table{fd: fd, buffer: make([]byte, 16<<10)}, nil
}

func (t *table) close() error { return os.NewSyscallError("close", unix.Close(t.fd)) }

// deletionsAtOnce is the number of entries removed with one system call: their answers fit into the
// socket's buffer several times.
const deletionsAtOnce = 64

// remove removes the matching entries and returns how many matched and how many of those had
// already gone.
func (t *table) remove(ctx context.Context, m matcher) (matched, gone int, err error) {
	var batch []byte
	queued := 0
	send := func() error {
		n, err := t.ask(batch, queued)
		gone += n
		batch, queued = batch[:0], 0
		return err
	}
	err = samplers.Walk(ctx, func(attributes []byte) error {
		e, err := parseEntry(attributes)
		if err != nil || !m.matches(e) {
			return err
		}
		matched++
		batch = appendDeletion(batch, e)
		if queued++; queued < deletionsAtOnce {
			return nil
		}
		return send()
	})
	if err == nil && queued > 0 {
		err = send()
	}
	if err != nil {
		err = fmt.Errorf("remove entries from the table: %w", err)
	}
	return matched, gone, err
}

// ask sends messages and waits for the answer to each. It counts missing entries; any other refusal
// is the error.
func (t *table) ask(messages []byte, number int) (gone int, err error) {
	if err := unix.Sendto(t.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("ask ctnetlink: %w", err)
	}
	for answered := 0; answered < number; {
		n, _, err := unix.Recvfrom(t.fd, t.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return gone, fmt.Errorf("wait for ctnetlink: %w", err)
		}
		for data := t.buffer[:n]; len(data) >= unix.SizeofNlMsghdr+4; answered++ {
			length := int(binary.NativeEndian.Uint32(data))
			if length < unix.SizeofNlMsghdr+4 || length > len(data) || binary.NativeEndian.Uint16(data[4:]) != unix.NLMSG_ERROR {
				return gone, fmt.Errorf("an answer of ctnetlink of %d bytes in %d that is none", length, len(data))
			}
			switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(data[unix.SizeofNlMsghdr:]))); errno {
			case 0:
			case unix.ENOENT:
				gone++
			default:
				return gone, fmt.Errorf("ctnetlink refused: %w", errno)
			}
			data = data[min((length+3)&^3, len(data)):]
		}
	}
	return gone, nil
}

func checkDelete(f Fault) error {
	if f.Delete == (Filter{}) {
		return fmt.Errorf("no filter is given; for all entries there is %s", actions.Flush)
	}
	_, err := compile(f.Delete)
	return err
}

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig = 1
	ctaStatus    = 3
	ctaProtoinfo = 4
	ctaID        = 12
	ctaZone      = 18

	ctaTupleIP     = 1
	ctaTupleProto  = 2
	ctaIPv4Src     = 1
	ctaIPv4Dst     = 2
	ctaIPv6Src     = 3
	ctaIPv6Dst     = 4
	ctaProtoNum    = 1
	ctaProtoSource = 2
	ctaProtoTarget = 3

	ctaProtoinfoTCP      = 1
	ctaProtoinfoTCPState = 1

	ipsAssured = 1 << 2
)

// entry holds the properties of a table entry that filters use, and those that its removal needs.
type entry struct {
	protocol, state             uint8 // by number; state is noState for protocols without
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	assured                     bool

	tuple, zone, id []byte // as the kernel sent them; valid as long as the message
}

// noState is the state of an entry whose protocol has none.
const noState = 0xff

// parseEntry reads the attributes of one entry.
func parseEntry(data []byte) (entry, error) {
	e := entry{state: noState}
	err := samplers.Attributes(data, func(kind int, value []byte) error {
		switch kind {
		case ctaTupleOrig:
			e.tuple = value
			return samplers.Attributes(value, e.readTuple)
		case ctaID:
			e.id = value
		case ctaZone:
			e.zone = value
		case ctaStatus:
			e.assured = len(value) == 4 && binary.BigEndian.Uint32(value)&ipsAssured != 0
		case ctaProtoinfo:
			return samplers.Attributes(value, func(kind int, value []byte) error {
				if kind != ctaProtoinfoTCP {
					return nil
				}
				return samplers.Attributes(value, func(kind int, value []byte) error {
					if kind == ctaProtoinfoTCPState && len(value) == 1 {
						e.state = value[0]
					}
					return nil
				})
			})
		}
		return nil
	})
	return e, err
}

func (e *entry) readTuple(kind int, value []byte) error {
	switch kind {
	case ctaTupleIP:
		return samplers.Attributes(value, func(kind int, value []byte) error {
			switch kind {
			case ctaIPv4Src, ctaIPv6Src:
				e.source, _ = netip.AddrFromSlice(value)
			case ctaIPv4Dst, ctaIPv6Dst:
				e.destination, _ = netip.AddrFromSlice(value)
			}
			return nil
		})
	case ctaTupleProto:
		return samplers.Attributes(value, func(kind int, value []byte) error {
			switch {
			case kind == ctaProtoNum && len(value) == 1:
				e.protocol = value[0]
			case kind == ctaProtoSource && len(value) == 2:
				e.sourcePort = binary.BigEndian.Uint16(value)
			case kind == ctaProtoTarget && len(value) == 2:
				e.destinationPort = binary.BigEndian.Uint16(value)
			}
			return nil
		})
	}
	return nil
}

const (
	nfnlSubsysCTNetlink = 1
	ipctnlMsgCTDelete   = 2
)

// appendDeletion appends the message that removes an entry: exactly that one, not a later one of
// the same tuple (CTA_ID).
func appendDeletion(message []byte, e entry) []byte {
	family := uint8(unix.AF_INET)
	if e.source.Is6() {
		family = unix.AF_INET6
	}
	begin := len(message)
	message = appendHeader(message, family)
	message = appendAttribute(message, ctaTupleOrig|unix.NLA_F_NESTED, e.tuple)
	if e.zone != nil {
		message = appendAttribute(message, ctaZone, e.zone)
	}
	if e.id != nil {
		message = appendAttribute(message, ctaID, e.id)
	}
	binary.NativeEndian.PutUint32(message[begin:], uint32(len(message)-begin))
	return message
}

// flushRequest returns the message that removes all entries of the network namespace.
func flushRequest() []byte {
	message := appendHeader(nil, unix.AF_UNSPEC)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	return message
}

// appendHeader appends struct nlmsghdr, whose length the caller fills in, and struct nfgenmsg.
func appendHeader(message []byte, family uint8) []byte {
	message = append(message, 0, 0, 0, 0)
	message = binary.NativeEndian.AppendUint16(message, nfnlSubsysCTNetlink<<8|ipctnlMsgCTDelete)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = append(message, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port
	return append(message, family, unix.NFNETLINK_V0, 0, 0)
}

func appendAttribute(message []byte, kind uint16, value []byte) []byte {
	message = binary.NativeEndian.AppendUint16(message, uint16(unix.SizeofNlAttr+len(value)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = append(message, value...)
	for len(message)%unix.NLA_ALIGNTO != 0 {
		message = append(message, 0)
	}
	return message
}

// tcpStates lists the states by number, as the kernel spells them in /proc/net/nf_conntrack
// (tcp_conntrack_names).
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

var protocolNumbers = map[string]uint8{
	"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136,
}

// matcher is a filter in the terms of an entry.
type matcher struct {
	protocol            int // -1: any
	state               int // -1: any
	source, destination netip.Prefix
	port, sourcePort    uint16
	unassured           bool
}

// compile checks a filter and translates its words.
func compile(f Filter) (matcher, error) {
	m := matcher{protocol: -1, state: -1, port: f.Port, sourcePort: f.SourcePort, unassured: f.Unassured}
	if f.Protocol != "" {
		number, known := protocolNumbers[strings.ToLower(f.Protocol)]
		if !known {
			n, err := strconv.ParseUint(f.Protocol, 10, 8)
			if err != nil {
				return m, fmt.Errorf("protocol %q: neither a number nor one of tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite", f.Protocol)
			}
			number = uint8(n)
		}
		m.protocol = int(number)
	}
	if f.State != "" {
		if m.state = slices.Index(tcpStates, strings.ToUpper(f.State)); m.state < 0 {
			return m, fmt.Errorf("state %q: none of tcp's %s", f.State, strings.Join(tcpStates, ", "))
		}
		if m.protocol >= 0 && m.protocol != int(protocolNumbers["tcp"]) {
			return m, fmt.Errorf("state %s: of tcp alone, not of %s", f.State, f.Protocol)
		}
		m.protocol = int(protocolNumbers["tcp"])
	}
	var err error
	if m.source, err = network(f.Source); err != nil {
		return m, fmt.Errorf("source %w", err)
	}
	if m.destination, err = network(f.Destination); err != nil {
		return m, fmt.Errorf("destination %w", err)
	}
	return m, nil
}

// network parses an address or a network; empty is the zero prefix, which matches all.
func network(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%q: neither an address nor a network", text)
	}
	return prefix, nil
}

// matches reports whether the filter selects an entry.
func (m matcher) matches(e entry) bool {
	within := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }
	switch {
	case m.protocol >= 0 && m.protocol != int(e.protocol),
		m.state >= 0 && m.state != int(e.state),
		m.port != 0 && m.port != e.destinationPort,
		m.sourcePort != 0 && m.sourcePort != e.sourcePort,
		m.unassured && e.assured:
		return false
	}
	return within(m.source, e.source) && within(m.destination, e.destination)
}
