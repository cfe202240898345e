package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
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
