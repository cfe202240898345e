package samplers

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	nfnlSubsysCTNetlink     = 1
	nfnlSubsysCTNetlinkExp  = 2
	ipctnlMsgCTGetStatsCPU  = 4
	ipctnlMsgExpGetStatsCPU = 3
	nfgenmsgLength          = 4
	netlinkTimeout          = 5 * time.Second // the kernel answers at once; covers a stopped node
	statsMessageType        = netlink.HeaderType(nfnlSubsysCTNetlink<<8 | ipctnlMsgCTGetStatsCPU)
	expStatsMessageType     = netlink.HeaderType(nfnlSubsysCTNetlinkExp<<8 | ipctnlMsgExpGetStatsCPU)
)

// netlinkStats asks ctnetlink for the per-CPU counters (Linux 3.6, CAP_NET_ADMIN in the user
// namespace that owns the network namespace). The first question loads nf_conntrack_netlink, and
// with it nf_conntrack, if they are modules and absent: see counterReader.
type netlinkStats struct{ conn *netlink.Conn }

func dialStats() (*netlinkStats, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	return &netlinkStats{conn: conn}, nil
}

func (s *netlinkStats) read() (*reading, error) { return s.ask(statsMessageType) }

// Of enum ctattr_expect_stats.
const (
	statExpectCreate = 2
	statExpectDelete = 3
)

// expectations returns the present number of expectations.
func (s *netlinkStats) expectations() (int64, error) {
	r, err := s.ask(expStatsMessageType)
	if err != nil {
		return 0, err
	}
	var n uint32
	for _, c := range r.cpus {
		n += c.values[statExpectCreate] - c.values[statExpectDelete]
	}
	return int64(int32(n)), nil
}

// ask gets one message of counters for each possible CPU.
func (s *netlinkStats) ask(kind netlink.HeaderType) (*reading, error) {
	if err := s.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return nil, fmt.Errorf("set a time limit for the netfilter socket: %w", err)
	}
	replies, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, fmt.Errorf("ask ctnetlink for its counters: %w", err)
	}
	r := &reading{cpus: make([]cpuStat, 0, len(replies))}
	for _, reply := range replies {
		if err := r.parseMessage(reply.Data); err != nil {
			return nil, fmt.Errorf("read the counters of ctnetlink: %w", err)
		}
	}
	return r, nil
}

func (s *netlinkStats) close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close the netfilter socket: %w", err)
	}
	return nil
}

// parseMessage adds one CPU: a struct nfgenmsg whose res_id is the CPU, then attributes of 32 bits,
// big endian, by number. It skips unknown attributes: newer kernels may send more.
func (r *reading) parseMessage(data []byte) error {
	if len(data) < nfgenmsgLength {
		return fmt.Errorf("%w: message of %d bytes", errNetlinkFormat, len(data))
	}
	c := cpuStat{cpu: int(binary.BigEndian.Uint16(data[2:]))}
	err := attributes(data[nfgenmsgLength:], func(kind int, value []byte) error {
		if kind < statCount && len(value) == 4 {
			c.values[kind] = binary.BigEndian.Uint32(value)
			r.have[kind] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.cpus = append(r.cpus, c)
	return nil
}
